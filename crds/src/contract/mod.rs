//! What the operator and the runner say to each other.
//!
//! The operator gives every pod a [`RunnerConfig`] (a file from an immutable ConfigMap named by revision) that
//! holds identity only; what belongs to execution travels as arguments. The runner answers with a [`RunResult`]
//! in the container's termination message, and with an [`ExitCode`].

mod config;
mod failure;
mod result;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use config::{
    CollectionConfig, DenseConfig, Place, RerankConfig, RerankerConfig, RunRef, RunnerConfig, SparseConfig,
};
pub use failure::{ExitCode, Failure, FailureReason};
pub use result::{
    CollectionResult, DenseResult, FinalizeResult, MessageError, PlanResult, RunResult, ShardResult, StageFallback,
    StageOutcome, StageResult,
};

/// The version of this contract. A runner refuses a configuration of another version by name.
pub const CONTRACT_VERSION: u32 = 1;

/// The size that the kubelet cuts a termination message to, in bytes.
pub const MESSAGE_LIMIT: usize = 4096;

/// Where the configuration is mounted in a pod.
pub const CONFIG_DIR: &str = "/embedrun/config";
/// The key of the ConfigMap, and so the name of the file, that holds the configuration.
pub const CONFIG_KEY: &str = "run.json";
/// The name of the runner's container.
pub const CONTAINER: &str = "runner";
/// Where a pod's runner writes its result.
pub const RESULT_PATH: &str = "/dev/termination-log";

/// A stage of a run, one Job each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Lists the sources and writes the plan.
    Plan,
    /// Embeds one shard.
    Embed,
    /// Merges, publishes, writes the summaries.
    Finalize,
}

impl Stage {
    /// The subcommand of the runner, the suffix of the Job and the value of the stage label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Embed => "embed",
            Self::Finalize => "finalize",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
