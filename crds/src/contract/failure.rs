//! The failure vocabulary: a reason, its exit code, and where it happened.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::stage::Stage;

/// The exit codes of the runner, wired to the Jobs' `podFailurePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// The configuration is wrong: trying again cannot help any shard.
    BadConfiguration = 2,
    /// The input of this shard is wrong: trying this shard again cannot help.
    BadInput = 3,
    /// Out of memory even at the smallest batch.
    OutOfMemory = 4,
    /// It may pass: try again.
    Transient = 75,
}

impl ExitCode {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a stage failed. The name is the reason in the condition, the event and the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureReason {
    /// The configuration cannot be read or contradicts itself.
    InvalidConfiguration,
    /// A source path does not exist or cannot be read.
    SourceNotFound,
    /// A collection has no chunks.
    EmptyCollection,
    /// A source file is not of its format.
    InvalidFile,
    /// A record lacks its text, or a field has the wrong type.
    InvalidRecord,
    /// Two chunks of a collection have the same id.
    DuplicateId,
    /// The source is not what was planned.
    SourceChanged,
    /// A model folder is missing, or a hub has no such model or revision.
    ModelNotFound,
    /// A hub does not give the model to who asks.
    ModelAccessDenied,
    /// A hub cannot be reached, is busy, or stops in the middle.
    HubUnavailable,
    /// A model folder cannot be used.
    InvalidModel,
    /// A model gave a vector that is not finite.
    InvalidVector,
    /// The accelerator that was asked for cannot be used.
    DeviceUnavailable,
    /// Another runner held the accelerator for too long, or it was too full to be opened.
    DeviceBusy,
    /// The accelerator failed or vanished when it was opened or used.
    DeviceLost,
    /// Out of memory even at the smallest batch.
    OutOfMemory,
    /// The output cannot be written with the rights that the process has.
    OutputNotWritable,
    /// The output has no space left.
    StorageFull,
    /// The output store failed in another way.
    StoreUnavailable,
    /// Not every shard is committed.
    ShardsMissing,
    /// The retrieval quality is below what the gate asks for.
    QualityGate,
    /// The process was told to stop.
    Interrupted,
    /// A defect of the runner.
    Internal,
}

impl FailureReason {
    /// The exit code of a failure, the only place that maps one to the other.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::InvalidConfiguration
            | Self::SourceNotFound
            | Self::ModelNotFound
            | Self::ModelAccessDenied
            | Self::InvalidModel
            | Self::DeviceUnavailable
            | Self::OutputNotWritable
            | Self::QualityGate => ExitCode::BadConfiguration,
            Self::EmptyCollection
            | Self::InvalidFile
            | Self::InvalidRecord
            | Self::DuplicateId
            | Self::SourceChanged
            | Self::InvalidVector => ExitCode::BadInput,
            Self::OutOfMemory => ExitCode::OutOfMemory,
            Self::HubUnavailable
            | Self::DeviceBusy
            | Self::DeviceLost
            | Self::StorageFull
            | Self::StoreUnavailable
            | Self::ShardsMissing
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

/// Why a stage failed, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The stage.
    pub stage: Stage,
    /// The class of the failure.
    pub reason: FailureReason,
    /// One sentence that names the file, line, field, model or object and what to do.
    pub message: String,
    /// The shard, in the embed stage.
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
