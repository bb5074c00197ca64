//! The outcome of the process: the result as JSON for the operator, and as text for a person.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    path::{Path, PathBuf},
};

use crds::{
    contract::{
        CollectionResult, Failure, FailureReason, FinalizeResult, PlanResult, RunResult, RunnerConfig, Stage,
        StageFallback, StageOutcome, StageResult,
    },
    identity::Revision,
    v1alpha1::FallbackSource,
};

use crate::process::{contained::is_contained, error::StageError, printable::printable};

/// The outcome of a run that did not fail.
#[derive(Debug)]
pub struct RunOutcome {
    /// The result, as the summaries have it.
    pub result: FinalizeResult,
    /// Whether the revision was complete before this run.
    pub already_complete: bool,
}

/// A failure and where it happened.
#[derive(Debug)]
pub struct RunFailure {
    /// The stage.
    pub stage: Stage,
    /// The shard, in the embed stage.
    pub shard: Option<u32>,
    /// The error.
    pub error: StageError,
}

/// The failure in the form of the result file.
pub fn failure(failed: &RunFailure) -> Failure {
    Failure { stage: failed.stage, reason: failed.error.reason, message: failed.error.sentence(), shard: failed.shard }
}

/// Writes the result as JSON to `file`, if there is one; the operator reads it as the pod's termination message.
pub fn write(file: Option<&Path>, result: &RunResult) {
    if let Some(file) = file
        && let Err(error) = std::fs::write(file, result.to_message())
    {
        tracing::error!("cannot write the result to {}: {error}", file.display());
    }
}

/// Prints the result to the standard output: the `sentence` on a terminal, JSON elsewhere.
pub fn print_result(result: &RunResult, sentence: &str) {
    if std::io::stdout().is_terminal() {
        print(&printable(sentence));
    } else {
        print(&result.to_message());
    }
}

/// Writes a line to the standard output. A closed pipe is not an error.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Makes a panic of any thread that is not contained end the process with the result `Internal`, after the message, and
/// after a backtrace if `RUST_BACKTRACE` is set.
pub fn report_panics(file: Option<PathBuf>, revision: Revision, stage: Stage, shard: Option<u32>) {
    std::panic::set_hook(Box::new(move |panic| {
        if is_contained() {
            return;
        }
        eprintln!("{}", printable(&panic.to_string()));
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            eprintln!("{backtrace}");
        }
        let reason = FailureReason::Internal;
        let message = format!("the runner panicked, which is a defect: {}", panic.to_string().replace('\n', " "));
        let failure = Failure { stage, reason, message, shard };
        write(file.as_deref(), &RunResult::new(revision.clone(), StageOutcome::Failed(failure)));
        std::process::exit(reason.exit_code().code().into());
    }));
}

/// The result of a stage for a person.
pub fn sentence(config: &RunnerConfig, outcome: &StageOutcome) -> String {
    match outcome {
        StageOutcome::Planned(PlanResult { complete: Some(result), .. }) => complete(config, result, true),
        StageOutcome::Planned(plan) => format!("planned: {} chunks in {} shards", plan.chunks, plan.shards),
        StageOutcome::Embedded(shard) if shard.already_committed => format!("shard {}: already committed", shard.shard),
        StageOutcome::Embedded(shard) => format!("shard {}: {} chunks committed", shard.shard, shard.chunks),
        StageOutcome::Finalized(result) => complete(config, result, false),
        StageOutcome::Failed(failure) => failure.message.clone(),
    }
}

/// The result of a complete revision for a person: a line per collection and per fallback.
pub fn complete(config: &RunnerConfig, result: &FinalizeResult, already_complete: bool) -> String {
    let mut text = format!(
        "{}: revision {} is complete{}\n",
        if config.run.name.is_empty() { "run" } else { &config.run.name },
        config.revision.short(),
        if already_complete { "; it was already, nothing was computed" } else { "" }
    );
    for (collection, result) in config.collections.iter().zip(&result.collections) {
        let _ = writeln!(text, "  {}: {}", collection.name, counts(config, result));
    }
    for (stage, fallback) in fallbacks(result) {
        let _ = writeln!(text, "  {stage} degraded: {fallback}");
    }
    if let Some(changed) = &result.source_changed {
        let _ = writeln!(text, "  warning: {changed}");
    }
    let _ = write!(text, "  summary: {}", config.run_summary_uri());
    text
}

/// The stages that fell back, each with the reason.
fn fallbacks(result: &FinalizeResult) -> Vec<(&'static str, StageFallback)> {
    let of_stage = |stage: &Option<StageResult>| stage.as_ref().and_then(|stage| stage.fallback);
    let device = result.device_fallback().map(|reason| StageFallback {
        reason,
        source: FallbackSource::Runtime,
        count: result.device_fallbacks,
    });
    let stages = [
        ("device", device),
        ("dense", result.dense_fallback),
        ("sparse", of_stage(&result.totals.sparse)),
        ("rerank", of_stage(&result.totals.rerank)),
    ];
    stages.into_iter().filter_map(|(stage, fallback)| Some((stage, fallback?))).collect()
}

fn counts(config: &RunnerConfig, result: &CollectionResult) -> String {
    let mut text = format!("{} chunks", result.chunks);
    if result.skipped > 0 {
        let _ = write!(text, ", {} without text skipped", result.skipped);
    }
    if result.truncated > 0 {
        let _ = write!(text, ", {} truncated", result.truncated);
    }
    let passes = config.dense.iter().zip(&result.dense).filter(|(_, dense)| dense.dimensions > 0);
    for (model, dense) in passes {
        let _ = write!(
            text,
            "; {}: {} dimensions, {} tokens, {} s",
            model.name, dense.dimensions, dense.tokens, dense.seconds
        );
    }
    if let Some(StageResult { executed: true, coverage: Some(coverage), .. }) = &result.sparse {
        let _ = write!(text, "; sparse: coverage {}", share(*coverage));
    }
    if let Some(StageResult { executed: true, candidates: Some(candidates), millis, .. }) = &result.rerank {
        let _ = write!(text, "; rerank: {candidates} candidates in {:.1} s", *millis as f64 / 1000.0);
    }
    for (metric, value) in &result.quality {
        let _ = write!(text, "; {metric} {}", share(*value));
    }
    text
}

/// Thousandths as a number with three decimals.
fn share(thousandths: u16) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}
