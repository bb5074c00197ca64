//! Failures of a stage: the reason, the exit code, the stage and the shard.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::stage::Stage;

/// The exit codes of the runner, wired to the Jobs' `podFailurePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The stage succeeded.
    Done = 0,
    /// The configuration is wrong: a retry cannot help any shard.
    BadConfiguration = 2,
    /// The input of this shard is wrong: a retry of this shard cannot help.
    BadInput = 3,
    /// Out of memory even at the smallest batch.
    OutOfMemory = 4,
    /// A transient failure: a retry may succeed.
    Transient = 75,
}

impl ExitCode {
    /// The exit code of the process.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a stage failed. The name of the variant is the reason in the condition, the event and the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// The configuration cannot be read or contradicts itself.
    InvalidConfiguration,
    /// A source path does not exist, or the process has no permission to read it.
    SourceNotFound,
    /// A source or the file of queries cannot be read for a reason that may pass.
    SourceUnavailable,
    /// A collection has no chunks.
    EmptyCollection,
    /// A source file does not have its format.
    InvalidFile,
    /// A record lacks its text, or a field has the wrong type.
    InvalidRecord,
    /// Two chunks of a collection have the same id.
    DuplicateId,
    /// The source changed after it was planned.
    SourceChanged,
    /// A model folder does not exist, or a hub has no such model or revision.
    ModelNotFound,
    /// A hub denies access to the model, or the process has no permission to read its files.
    ModelAccessDenied,
    /// A hub cannot be reached, is busy, or aborts a download.
    HubUnavailable,
    /// A model file cannot be read for a reason that may pass.
    ModelUnavailable,
    /// A model folder cannot be used.
    InvalidModel,
    /// A file of a model changed while the revision was embedded.
    ModelChanged,
    /// A model computed a vector that is not finite, or that its stored form cannot hold.
    InvalidVector,
    /// The arithmetic of a model failed, which another attempt would repeat.
    ComputationFailed,
    /// A requested accelerator cannot be used.
    DeviceUnavailable,
    /// Another runner held the accelerator for too long, or its memory was too full to open it.
    DeviceBusy,
    /// The accelerator failed or disappeared while it was opened or used.
    DeviceLost,
    /// Out of memory even at the smallest batch.
    OutOfMemory,
    /// The process has no permission to write the output.
    OutputNotWritable,
    /// Another run, or a later plan, owns what the run would publish or resume in the output.
    OutputConflict,
    /// The output has no space left.
    StorageFull,
    /// The output store failed for another reason.
    StoreUnavailable,
    /// Not every shard is committed.
    ShardsMissing,
    /// Committed shards are to be embedded again: a file of theirs is gone or damaged, or an optional model was left out
    /// that other shards have.
    ShardsSuperseded,
    /// The retrieval quality fails the gate.
    QualityGate,
    /// The process was interrupted by a signal.
    Interrupted,
    /// A defect of the runner.
    Internal,
}

impl FailureReason {
    /// The exit code of this reason. The only mapping between the two.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::InvalidConfiguration
            | Self::SourceNotFound
            | Self::ModelNotFound
            | Self::ModelAccessDenied
            | Self::InvalidModel
            | Self::ModelChanged
            | Self::DeviceUnavailable
            | Self::OutputNotWritable
            | Self::OutputConflict
            | Self::QualityGate => ExitCode::BadConfiguration,
            Self::EmptyCollection
            | Self::InvalidFile
            | Self::InvalidRecord
            | Self::DuplicateId
            | Self::SourceChanged
            | Self::InvalidVector
            | Self::ComputationFailed => ExitCode::BadInput,
            Self::OutOfMemory => ExitCode::OutOfMemory,
            Self::SourceUnavailable
            | Self::ModelUnavailable
            | Self::HubUnavailable
            | Self::DeviceBusy
            | Self::DeviceLost
            | Self::StorageFull
            | Self::StoreUnavailable
            | Self::ShardsMissing
            | Self::ShardsSuperseded
            | Self::Interrupted
            | Self::Internal => ExitCode::Transient,
        }
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A failure of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The stage.
    pub stage: Stage,
    /// Why the stage failed.
    pub reason: FailureReason,
    /// One sentence that names the file, line, field, model or object, and what to do.
    pub message: String,
    /// The shard; embed stage only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_failure_vocabulary() {
        assert_eq!(
            [
                ExitCode::Done,
                ExitCode::BadConfiguration,
                ExitCode::BadInput,
                ExitCode::OutOfMemory,
                ExitCode::Transient
            ]
            .map(ExitCode::code),
            [0, 2, 3, 4, 75]
        );
    }
}
