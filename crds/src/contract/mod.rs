//! The contract between the operator and the runner.
//!
//! The operator gives every pod a [`RunnerConfig`] (a file from an immutable ConfigMap named by revision). It holds
//! identity fields only; execution fields travel as arguments. The runner answers with a [`RunResult`] in the
//! container's termination message, and with an [`ExitCode`].

mod config;
mod failure;
mod interface;
mod message;
mod result;
mod stage;

pub use config::{
    CollectionConfig, DenseConfig, Place, RerankConfig, RerankerConfig, RunRef, RunnerConfig, SparseConfig,
};
pub use failure::{ExitCode, Failure, FailureReason};
pub use interface::{
    CONFIG_DIR, CONFIG_KEY, CONTAINER, CONTRACT_VERSION, HUB_TOKEN_DIR, HUB_TOKEN_FILE, HUB_TOKEN_VARIABLE, RESULT_PATH,
};
pub use message::{MESSAGE_LIMIT, MessageError};
pub use result::{
    CollectionResult, DenseResult, FinalizeResult, PlanResult, RunResult, ShardResult, StageFallback, StageOutcome,
    StageResult,
};
pub use stage::Stage;
