//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use crds::contract::{CONFIG_DIR, CONFIG_KEY};

use crate::{
    config::{VolumeMapping, toggles::Flag},
    device::{DeviceOptions, DeviceRequest, LockOptions},
    process::log::LogFormat,
};

/// Turns collections of text into search-ready vectors.
#[derive(Debug, Parser)]
#[command(name = "embedrun", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// The form of the log on the standard error [default: text on a terminal, json elsewhere].
    #[arg(long, global = true, env = "EMBEDRUN_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Warnings and errors only, no progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// The file that the result is written to as JSON, also when the stage fails.
    #[arg(long, global = true, env = "EMBEDRUN_RESULT_FILE", value_name = "FILE")]
    pub result_file: Option<PathBuf>,
    /// Where /metrics is served while the process runs, for example 127.0.0.1:9464.
    #[arg(long, global = true, env = "EMBEDRUN_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Executes a manifest on this machine: plans, embeds and finalizes in one process.
    Run(RunArgs),
    /// Stage 1: lists the sources and writes the plan.
    Plan(PlanArgs),
    /// Stage 2: embeds one shard.
    Embed(EmbedArgs),
    /// Stage 3: writes the summaries and points readers to the revision.
    Finalize(FinalizeArgs),
    /// Shows what a run left behind, for people.
    #[command(subcommand)]
    Summary(SummaryCommand),
    /// Finds the chunks nearest to a question in the current revision of a collection.
    Search(SearchArgs),
}

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The manifest.
    #[command(flatten)]
    pub manifest: ManifestArgs,
    /// Where to compute, in place of what spec.gpu asks for.
    #[arg(long)]
    pub device: Option<DeviceKind>,
    /// How GPUs are shared.
    #[command(flatten)]
    pub locks: LockArgs,
    /// The largest number of chunks in a shard, in place of spec.execution.shardSize.
    #[arg(long, value_name = "CHUNKS", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_size: Option<u64>,
    /// A toggle, in place of what the manifest, the environment or a file says; repeatable.
    #[arg(long = "toggle", value_name = "KEY=VALUE")]
    pub toggles: Vec<Flag>,
}

/// A manifest and where its volumes are.
#[derive(Debug, Args)]
pub struct ManifestArgs {
    /// The EmbeddingRun manifest.
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    pub file: PathBuf,
    /// The folder of a persistent volume claim, or of a ConfigMap as configmap/NAME=FOLDER; repeatable.
    #[arg(long = "volume", value_name = "CLAIM=FOLDER")]
    pub volumes: Vec<VolumeMapping>,
}

/// The configuration of a stage.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration that the operator wrote.
    #[arg(long, value_name = "FILE", default_value_os_t = default_config())]
    pub config: PathBuf,
}

/// The arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The largest number of chunks in a shard; fixed once the revision is planned.
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
    /// Where to compute.
    #[command(flatten)]
    pub devices: DeviceArgs,
}

/// The arguments of `finalize`.
#[derive(Debug, Args)]
pub struct FinalizeArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Where to rerank.
    #[command(flatten)]
    pub devices: DeviceArgs,
}

/// Where to compute.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Where to compute; auto goes by --gpu-count, or takes a GPU where there is one.
    #[arg(long, default_value = "auto")]
    pub device: DeviceKind,
    /// How many GPUs the pod was given; 0 computes on the CPU.
    #[arg(long, value_name = "COUNT")]
    pub gpu_count: Option<u32>,
    /// Whether a missing GPU is a failure; otherwise what is there computes and the fallback is recorded.
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub gpu_required: bool,
    /// The most memory in use of each GPU (spec.gpu.memoryCeiling): bytes such as 12Gi, which is the default, or max.
    #[arg(long, value_name = "BYTES")]
    pub gpu_memory_ceiling: Option<String>,
    /// How GPUs are shared.
    #[command(flatten)]
    pub locks: LockArgs,
}

/// How the runners of a machine share GPUs: one at a time has a GPU.
#[derive(Clone, Debug, Args)]
pub struct LockArgs {
    /// The folder of the locks of GPUs, the same for all runners that share them [default: embedrun-locks in the folder
    /// of temporary files].
    #[arg(long, env = "EMBEDRUN_LOCK_DIR", value_name = "FOLDER")]
    pub lock_dir: Option<PathBuf>,
    /// The longest wait for a GPU that another runner has, in seconds.
    #[arg(long, env = "EMBEDRUN_LOCK_WAIT", value_name = "SECONDS", default_value_t = LockOptions::WAIT.as_secs())]
    pub lock_wait: u64,
}

/// What to do with a summary.
#[derive(Debug, Subcommand)]
pub enum SummaryCommand {
    /// Shows a processing_summary.json: what was asked, done and fell back, how fast, how good, and where things lie.
    Show {
        /// The file.
        path: PathBuf,
    },
}

/// The arguments of `search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// The EmbeddingRun manifest.
    #[arg(
        long = "filename",
        short = 'f',
        value_name = "FILE",
        required_unless_present = "config",
        conflicts_with = "config"
    )]
    pub file: Option<PathBuf>,
    /// The folder of a persistent volume claim; repeatable.
    #[arg(long = "volume", value_name = "CLAIM=FOLDER")]
    pub volumes: Vec<VolumeMapping>,
    /// The configuration that the operator wrote, in place of a manifest.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The collection; may be left out where there is only one.
    #[arg(long, short)]
    pub collection: Option<String>,
    /// The model that compares; the first of the manifest when left out.
    #[arg(long, short)]
    pub model: Option<String>,
    /// How many chunks to show.
    #[arg(short, default_value_t = 5, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub k: u32,
    /// One JSON object per chunk in place of text.
    #[arg(long)]
    pub json: bool,
    /// The question.
    pub question: String,
}

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// As asked for elsewhere.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or fail.
    Cuda,
}

impl DeviceKind {
    /// The request; `asked` is what counts for `auto`, and for how many.
    pub fn or(self, asked: DeviceRequest) -> DeviceRequest {
        match self {
            Self::Auto => asked,
            Self::Cpu => DeviceRequest::Cpu,
            Self::Cuda => DeviceRequest::Cuda { count: asked.count().max(1), required: true },
        }
    }
}

impl RunArgs {
    /// The devices that are asked for, where the spec asks for `of_spec`.
    pub fn request(&self, of_spec: DeviceRequest) -> DeviceRequest {
        match self.device {
            None => of_spec,
            Some(DeviceKind::Auto) => DeviceRequest::Any,
            Some(device) => device.or(of_spec),
        }
    }
}

impl DeviceArgs {
    /// What the arguments ask for.
    pub fn options(&self) -> DeviceOptions {
        let count = self.gpu_count.map(|count| DeviceRequest::of_spec(count, self.gpu_required));
        DeviceOptions {
            request: self.device.or(count.unwrap_or(DeviceRequest::Any)),
            ceiling: self.gpu_memory_ceiling.clone(),
            locks: self.locks.options(),
        }
    }
}

impl LockArgs {
    /// How GPUs are shared.
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

    fn asked(arguments: &str) -> DeviceOptions {
        let cli = Cli::try_parse_from(format!("embedrun embed --shard 0 {arguments}").split_whitespace());
        let Command::Embed(embed) = cli.expect(arguments).command else { panic!("not embed") };
        embed.devices.options()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_device_is_what_count_and_required_ask_for() {
        let request = |arguments: &str| asked(arguments).request;
        assert_eq!(request(""), DeviceRequest::Any);
        assert_eq!(request("--gpu-count 0 --gpu-required true"), DeviceRequest::Cpu);
        assert_eq!(request("--gpu-count 1"), DeviceRequest::Cuda { count: 1, required: true });
        assert_eq!(request("--gpu-count 2 --gpu-required false"), DeviceRequest::Cuda { count: 2, required: false });
        assert_eq!(request("--gpu-count 2 --device cuda"), DeviceRequest::Cuda { count: 2, required: true });
        assert_eq!(request("--device cuda"), DeviceRequest::Cuda { count: 1, required: true });
        assert_eq!(request("--gpu-count 1 --device cpu"), DeviceRequest::Cpu);
    }

    #[test]
    fn ceiling_and_locks_are_what_the_arguments_say() {
        let asked = asked("--gpu-memory-ceiling 20Gi --lock-dir /run/locks --lock-wait 7");
        assert_eq!(asked.ceiling.as_deref(), Some("20Gi"));
        assert_eq!(asked.locks, LockOptions { folder: "/run/locks".into(), wait: Duration::from_secs(7) });
    }
}
