//! The program: from the command line to the stages, and from their outcome to the exit code.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Parser;
use crds::{
    contract::{self, FailureReason, RunResult, RunnerConfig, Stage, StageOutcome},
    identity::Revision,
};
use runner::{
    cli::{Cli, Command, RecheckArgs, RunArgs, SearchArgs, SummaryCommand},
    config::{
        self, ConfigError, LocalVolumes, Manifest,
        toggles::{Flag, Toggles},
    },
    device::{DeviceOptions, DeviceRequest},
    hub,
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
        log::{self, LogFormat},
        metrics,
        printable::printable,
        telemetry::{self, Collector},
    },
    retrieval::search::{self as retrieval_search, SearchQuery},
    run::{self, Recheck, Run, RunFailure, outcome},
};

fn main() -> ExitCode {
    // First: no other thread runs yet.
    hub::take_from_environment();
    let cli = Cli::parse();
    let format = cli.log_format.unwrap_or_else(LogFormat::detect);
    let started = Collector::from_environment().and_then(|collector| {
        log::init(format, cli.quiet, collector.as_ref())?;
        Ok(collector)
    });
    let collector = match started {
        Ok(collector) => collector,
        Err(message) => {
            eprintln!("error: {}", printable(&message));
            return ExitCode::from(contract::ExitCode::BadConfiguration.code());
        }
    };
    let process =
        Process { format, quiet: cli.quiet, result_file: cli.result_file, metrics_address: cli.metrics_listen };
    let outcome = match cli.command {
        Command::Run(args) => process.run(&args),
        Command::Plan(args) => {
            let options = StageOptions::of(&args.config.config, DeviceOptions::default(), args.recheck);
            process.stage(&options, Stage::Plan, None, |run| run::plan(run, args.shard_size).map(StageOutcome::Planned))
        }
        Command::Embed(args) => {
            let options = StageOptions::of(&args.config.config, args.devices.options(), args.recheck);
            process.stage(&options, Stage::Embed, Some(args.shard), |run| {
                run::embed(run, args.shard).map(StageOutcome::Embedded)
            })
        }
        Command::Finalize(args) => {
            let options = StageOptions::of(&args.config.config, args.devices.options(), args.recheck);
            process.stage(&options, Stage::Finalize, None, |run| run::finalize(run).map(StageOutcome::Finalized))
        }
        Command::Summary(SummaryCommand::Show { path }) => show(&path).map_err(|error| process.report(&error)),
        Command::Search(args) => search(&args).map_err(|error| process.report(&error)),
    };
    if let Some(collector) = collector {
        collector.finish();
    }
    outcome.map_or_else(|code| ExitCode::from(code.code()), |()| ExitCode::SUCCESS)
}

/// The options that all commands share.
struct Process {
    format: LogFormat,
    quiet: bool,
    result_file: Option<PathBuf>,
    metrics_address: Option<SocketAddr>,
}

/// The options of one stage.
struct StageOptions {
    config: PathBuf,
    devices: DeviceOptions,
    recheck: Recheck,
}

impl StageOptions {
    fn of(config: &Path, devices: DeviceOptions, recheck: RecheckArgs) -> Self {
        Self { config: config.to_owned(), devices, recheck: recheck.options() }
    }
}

impl Process {
    /// Runs one stage with the configuration of a pod.
    fn stage(
        &self,
        options: &StageOptions,
        stage: Stage,
        shard: Option<u32>,
        work: impl FnOnce(&Run) -> Result<StageOutcome>,
    ) -> Result<(), contract::ExitCode> {
        let config = config::load(&options.config)
            .map_err(|ConfigError { error, revision }| self.fail(&revision, &RunFailure { stage, shard, error }))?;
        let revision = config.revision.clone();
        outcome::report_panics(self.result_file.clone(), revision.clone(), stage, shard);
        let outcome = self
            .open(config, &options.devices, &[], options.recheck)
            .and_then(|run| Ok((run_span(&run, stage).in_scope(|| work(&run))?, run)))
            .map_err(|error| self.fail(&revision, &RunFailure { stage, shard, error }))?;
        let (outcome, run) = outcome;
        let sentence = outcome::sentence(&run.config, &outcome);
        self.succeed(&RunResult::new(revision, outcome), &sentence);
        Ok(())
    }

    /// Runs all stages with a manifest.
    fn run(&self, args: &RunArgs) -> Result<(), contract::ExitCode> {
        // The revision is known only after the manifest is resolved.
        let no_revision = Revision::from_recorded("");
        let invalid_manifest = |error| self.fail(&no_revision, &RunFailure { stage: Stage::Plan, shard: None, error });
        let manifest = Manifest::load(&args.manifest.file).map_err(invalid_manifest)?;
        let volumes = args.manifest.volumes.iter().cloned().collect();
        let config = manifest.resolve(&volumes).map_err(invalid_manifest)?;
        let revision = config.revision.clone();
        outcome::report_panics(self.result_file.clone(), revision.clone(), Stage::Embed, None);
        let spec = &manifest.run.spec;
        let spec_request = DeviceRequest::of_spec(spec.gpu.count, spec.gpu.required);
        let devices = DeviceOptions {
            request: args.request(spec_request),
            ceiling: spec.gpu.memory_ceiling.clone(),
            locks: args.locks.options(),
        };
        let shard_size = args.shard_size.unwrap_or(spec.execution.shard_size);
        let run = self
            .open(config, &devices, &args.toggles, args.recheck.options())
            .map_err(|error| self.fail(&revision, &RunFailure { stage: Stage::Plan, shard: None, error }))?;
        let span = tracing::debug_span!(telemetry::RUN, revision = %revision);
        let outcome = span.in_scope(|| run::run(&run, shard_size)).map_err(|failure| self.fail(&revision, &failure))?;
        let sentence = outcome::complete(&run.config, &outcome.result, outcome.already_complete);
        self.succeed(&RunResult::new(revision, StageOutcome::Finalized(outcome.result)), &sentence);
        Ok(())
    }

    /// Opens a run, and serves `/metrics` if requested.
    fn open(&self, config: RunnerConfig, devices: &DeviceOptions, flags: &[Flag], recheck: Recheck) -> Result<Run> {
        let toggles = Toggles::of_process(&config, devices.ceiling.as_deref(), flags)?;
        let interrupt = Interrupt::on_signals()
            .map_err(|error| StageError::new(FailureReason::Internal, "cannot handle signals").caused_by(error))?;
        if let Some(address) = self.metrics_address.filter(|_| toggles.features.metrics) {
            metrics::serve(address)?;
        }
        let mut run = Run::open(config, toggles, devices, interrupt, !self.quiet && self.format == LogFormat::Text)?;
        run.recheck = recheck;
        Ok(run)
    }

    fn succeed(&self, result: &RunResult, sentence: &str) {
        outcome::write(self.result_file.as_deref(), result);
        outcome::print_result(result, sentence);
    }

    fn fail(&self, revision: &Revision, failure: &RunFailure) -> contract::ExitCode {
        let outcome = StageOutcome::Failed(outcome::failure(failure));
        outcome::write(self.result_file.as_deref(), &RunResult::new(revision.clone(), outcome));
        self.report(&failure.error)
    }

    /// Logs the error. Returns its exit code.
    fn report(&self, error: &StageError) -> contract::ExitCode {
        let code = error.reason.exit_code();
        match self.format {
            LogFormat::Text => eprintln!("error ({}): {}", error.reason, printable(&error.sentence())),
            LogFormat::Json => tracing::error!(reason = %error.reason, exit_code = code.code(), "{}", error.sentence()),
        }
        code
    }
}

fn run_span(run: &Run, stage: Stage) -> tracing::Span {
    tracing::debug_span!(telemetry::RUN, revision = %run.config.revision, stage = %stage)
}

/// Prints a summary as text.
fn show(path: &Path) -> Result<()> {
    let invalid = |message: String| StageError::new(FailureReason::InvalidFile, message);
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| invalid(format!("cannot read {name}")).caused_by(error))?;
    let summary = report::read(&bytes, &name).map_err(|error| invalid(error.to_string()))?;
    outcome::print(&printable(&report::text(&summary)));
    Ok(())
}

/// Prints the chunks nearest to a question.
fn search(args: &SearchArgs) -> Result<()> {
    let config = match (&args.file, &args.config) {
        (Some(manifest), _) => {
            let volumes: LocalVolumes = args.volumes.iter().cloned().collect();
            Manifest::load(manifest)?.resolve(&volumes.without_sources())?
        }
        (None, Some(config)) => config::load(config).map_err(|ConfigError { error, .. }| error)?,
        (None, None) => unreachable!("the command line requires one of both"),
    };
    let query = SearchQuery {
        collection: args.collection.as_deref(),
        model: args.model.as_deref(),
        question: &args.question,
        count: args.k as usize,
    };
    for (rank, hit) in (1..).zip(retrieval_search::search(&config, query)?) {
        if args.json {
            outcome::print(&serde_json::to_string(&hit).expect("a hit has string keys"));
        } else {
            outcome::print(&retrieval_search::show(rank, &hit));
        }
    }
    Ok(())
}
