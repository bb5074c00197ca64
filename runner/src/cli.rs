//! The command line: commands, options, and the devices that they request.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use crds::contract::{CONFIG_DIR, CONFIG_KEY};

use crate::{
    config::{VolumeMapping, toggles::Flag},
    device::{DeviceOptions, DeviceRequest, LockOptions},
    process::log::LogFormat,
    run::{Depth, Recheck},
};

/// Turns collections of text into search-ready vectors.
#[derive(Debug, Parser)]
#[command(name = "embedrun", version)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
    /// The format of the log on the standard error [default: text on a terminal, json elsewhere].
    #[arg(long, global = true, env = "EMBEDRUN_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Log only warnings and errors, and show no progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Write the result to this file as JSON, also if the stage fails.
    #[arg(long, global = true, env = "EMBEDRUN_RESULT_FILE", value_name = "FILE")]
    pub result_file: Option<PathBuf>,
    /// Serve /metrics at this address while the process runs, for example 127.0.0.1:9464.
    #[arg(long, global = true, env = "EMBEDRUN_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a manifest on this machine: plan, embed and finalize in one process.
    Run(RunArgs),
    /// Stage 1: read the sources and write the plan.
    Plan(PlanArgs),
    /// Stage 2: embed one shard of the plan.
    Embed(EmbedArgs),
    /// Stage 3: rerank, write the summaries, and publish the revision.
    Finalize(FinalizeArgs),
    /// Show the summary of a run as text.
    #[command(subcommand)]
    Summary(SummaryCommand),
    /// Find the chunks nearest to a question in the published revision of a collection.
    Search(SearchArgs),
}

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The manifest and its volumes.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// The device to compute on; overrides spec.gpu.
    #[arg(long)]
    pub device: Option<DeviceKind>,
    /// The sharing of GPUs.
    #[command(flatten)]
    pub locks: LockArgs,
    /// The largest number of chunks in a shard; overrides spec.execution.shardSize.
    #[arg(long, value_name = "CHUNKS", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_size: Option<u64>,
    /// What is looked at again.
    #[command(flatten)]
    pub recheck: RecheckArgs,
    /// Set a toggle; overrides the manifest, the environment and the toggle file; repeatable.
    #[arg(long = "toggle", value_name = "KEY=VALUE")]
    pub toggles: Vec<Flag>,
}

/// A manifest, and the folders of its volumes.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// The file of the EmbeddingRun manifest.
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    pub file: PathBuf,
    /// The local folder of a persistent volume claim, or of a ConfigMap as configmap/NAME=FOLDER; repeatable.
    #[arg(long = "volume", value_name = "CLAIM=FOLDER")]
    pub volumes: Vec<VolumeMapping>,
}

/// The configuration of a stage.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file from the operator.
    #[arg(long, value_name = "FILE", default_value_os_t = default_config())]
    pub config: PathBuf,
}

/// The arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What is looked at again.
    #[command(flatten)]
    pub recheck: RecheckArgs,
    /// The largest number of chunks in a shard; ignored if the revision already has a plan.
    #[arg(long, value_name = "CHUNKS", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_size: u64,
}

/// The arguments of `embed`.
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The index of the shard in the plan, from 0.
    #[arg(long, env = "JOB_COMPLETION_INDEX", value_name = "INDEX")]
    pub shard: u32,
    /// What is looked at again.
    #[command(flatten)]
    pub recheck: RecheckArgs,
    /// The devices to embed on.
    #[command(flatten)]
    pub devices: DeviceArgs,
}

/// The arguments of `finalize`.
#[derive(Debug, Args)]
pub struct FinalizeArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// What is looked at again.
    #[command(flatten)]
    pub recheck: RecheckArgs,
    /// The devices to rerank on.
    #[command(flatten)]
    pub devices: DeviceArgs,
}

/// What is looked at again of what is done already.
#[derive(Clone, Copy, Debug, Args)]
pub struct RecheckArgs {
    /// Read committed files and compare their digests; without it only their presence and size are checked.
    #[arg(long, env = "EMBEDRUN_VERIFY_DIGESTS", value_parser = BoolishValueParser::new())]
    pub verify_digests: bool,
    /// Try optional models again that were left out; only the shards that lack them are embedded.
    #[arg(long, env = "EMBEDRUN_RETRY_FALLBACKS", value_parser = BoolishValueParser::new())]
    pub retry_fallbacks: bool,
}

/// The devices to compute on.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// The device to compute on; auto uses --gpu-count, or without it a GPU if there is one.
    #[arg(long, default_value = "auto")]
    pub device: DeviceKind,
    /// The number of GPUs of the pod; 0 computes on the CPU.
    #[arg(long, value_name = "COUNT")]
    pub gpu_count: Option<u32>,
    /// Whether a missing GPU is a failure; if false, the available devices compute and the fallback is recorded.
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub gpu_required: bool,
    /// The memory ceiling of each GPU (spec.gpu.memoryCeiling): bytes such as 12Gi, or max [default: 12Gi].
    #[arg(long, value_name = "BYTES")]
    pub gpu_memory_ceiling: Option<String>,
    /// The sharing of GPUs.
    #[command(flatten)]
    pub locks: LockArgs,
}

/// How the runners of a machine share GPUs: a lock gives a GPU to one runner at a time.
#[derive(Clone, Debug, Args)]
pub struct LockArgs {
    /// The folder of the GPU locks, the same for all runners that share GPUs [default: embedrun-locks in the folder of
    /// temporary files].
    #[arg(long, env = "EMBEDRUN_LOCK_DIR", value_name = "FOLDER")]
    pub lock_dir: Option<PathBuf>,
    /// The longest wait for a GPU that another runner has locked, in seconds.
    #[arg(long, env = "EMBEDRUN_LOCK_WAIT", value_name = "SECONDS", default_value_t = LockOptions::WAIT.as_secs())]
    pub lock_wait: u64,
}

/// A command on a summary.
#[derive(Debug, Subcommand)]
pub enum SummaryCommand {
    /// Show a processing_summary.json: requests, results, fallbacks, speed, quality and files.
    Show {
        /// The processing_summary.json.
        path: PathBuf,
    },
}

/// The arguments of `search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The file of the EmbeddingRun manifest.
    #[arg(
        long = "filename",
        short = 'f',
        value_name = "FILE",
        required_unless_present = "config",
        conflicts_with = "config"
    )]
    pub file: Option<PathBuf>,
    /// The local folder of a persistent volume claim; repeatable.
    #[arg(long = "volume", value_name = "CLAIM=FOLDER")]
    pub volumes: Vec<VolumeMapping>,
    /// The configuration file from the operator, in place of a manifest.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The collection to search; optional if the run has only one.
    #[arg(long, short)]
    pub collection: Option<String>,
    /// The dense model whose vectors are compared [default: the first of the manifest].
    #[arg(long, short)]
    pub model: Option<String>,
    /// The number of chunks to show.
    #[arg(short, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// Print one JSON object per chunk instead of text.
    #[arg(long)]
    pub json: bool,
    /// The question.
    pub question: String,
}

/// The kind of device to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// Decided by other options, or a GPU if there is one.
    Auto,
    /// The CPU.
    Cpu,
    /// GPUs; fail if they are missing.
    Cuda,
}

impl DeviceKind {
    /// The request for devices of this kind. `default` is the request of `auto`, and sets the number of GPUs.
    pub fn request(self, default: DeviceRequest) -> DeviceRequest {
        match self {
            Self::Auto => default,
            Self::Cpu => DeviceRequest::Cpu,
            Self::Cuda => DeviceRequest::Cuda { count: default.count().max(1), required: true },
        }
    }
}

impl RunArgs {
    /// The requested devices; `spec_request` is the request of the spec, which `--device` overrides.
    pub fn request(&self, spec_request: DeviceRequest) -> DeviceRequest {
        match self.device {
            None => spec_request,
            Some(DeviceKind::Auto) => DeviceRequest::Any,
            Some(device) => device.request(spec_request),
        }
    }
}

impl DeviceArgs {
    /// The options for opening the devices.
    pub fn options(&self) -> DeviceOptions {
        let by_count = self.gpu_count.map(|count| DeviceRequest::of_spec(count, self.gpu_required));
        DeviceOptions {
            request: self.device.request(by_count.unwrap_or(DeviceRequest::Any)),
            ceiling: self.gpu_memory_ceiling.clone(),
            locks: self.locks.options(),
        }
    }
}

impl RecheckArgs {
    /// What the run looks at again.
    pub fn options(&self) -> Recheck {
        let depth = if self.verify_digests { Depth::Digest } else { Depth::Size };
        Recheck { depth, retry_fallbacks: self.retry_fallbacks }
    }
}

impl LockArgs {
    /// The options of the GPU locks.
    pub fn options(&self) -> LockOptions {
        LockOptions {
            folder: self.lock_dir.clone().unwrap_or_else(LockOptions::default_folder),
            wait: Duration::from_secs(self.lock_wait),
        }
    }
}

fn default_config() -> PathBuf {
    PathBuf::from(CONFIG_DIR).join(CONFIG_KEY)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn device_options(arguments: &str) -> DeviceOptions {
        let cli = Cli::try_parse_from(format!("embedrun embed --shard 0 {arguments}").split_whitespace());
        let Command::Embed(embed) = cli.expect(arguments).command else { panic!("not embed") };
        embed.devices.options()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn count_and_required_decide_the_requested_device() {
        let request = |arguments: &str| device_options(arguments).request;
        assert_eq!(request(""), DeviceRequest::Any);
        assert_eq!(request("--gpu-count 0 --gpu-required true"), DeviceRequest::Cpu);
        assert_eq!(request("--gpu-count 1"), DeviceRequest::Cuda { count: 1, required: true });
        assert_eq!(request("--gpu-count 2 --gpu-required false"), DeviceRequest::Cuda { count: 2, required: false });
        assert_eq!(request("--gpu-count 2 --device cuda"), DeviceRequest::Cuda { count: 2, required: true });
        assert_eq!(request("--device cuda"), DeviceRequest::Cuda { count: 1, required: true });
        assert_eq!(request("--gpu-count 1 --device cpu"), DeviceRequest::Cpu);
    }

    #[test]
    fn ceiling_and_locks_are_taken_from_the_arguments() {
        let options = device_options("--gpu-memory-ceiling 20Gi --lock-dir /run/locks --lock-wait 7");
        assert_eq!(options.ceiling.as_deref(), Some("20Gi"));
        assert_eq!(options.locks, LockOptions { folder: "/run/locks".into(), wait: Duration::from_secs(7) });
    }
}
