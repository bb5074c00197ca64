//! Failures of passes: the reason for which an optional model falls back, and the id of the chunk that failed.

use crds::{
    contract::{ExitCode, FailureReason},
    v1alpha1::FallbackReason,
};

use super::PassError;
use crate::{
    model::ModelError,
    process::{error::StageError, interrupt::Interrupt},
    spill::Chunks,
    tokenizer::TokenizerError,
};

/// The fallback reason of a model's failure. `None` if another attempt may succeed (a hub that is busy or unreachable, a
/// disk or a network that fails), or if the cause is the configuration rather than the model.
pub fn fallback_reason(error: &StageError) -> Option<FallbackReason> {
    if error.reason.exit_code() == ExitCode::Transient {
        return None;
    }
    match error.reason {
        FailureReason::ModelNotFound | FailureReason::ModelAccessDenied | FailureReason::InvalidModel => {
            Some(FallbackReason::ModelUnavailable)
        }
        FailureReason::OutOfMemory => Some(FallbackReason::OutOfMemory),
        FailureReason::InvalidVector | FailureReason::InvalidRecord | FailureReason::ComputationFailed => {
            Some(FallbackReason::ExecutionFailed)
        }
        _ => None,
    }
}

/// The error of a pass over chunks. An error of one row names the id of its chunk.
pub(super) fn name_chunk(error: PassError<StageError>, chunks: &Chunks) -> StageError {
    let error = match error {
        PassError::Model(error) => error,
        PassError::Cancelled => return Interrupt::error(),
        PassError::Source(error) | PassError::Sink(error) => return error,
    };
    match error {
        ModelError::NotFinite { row, .. }
        | ModelError::OutOfMemory { row: Some(row), .. }
        | ModelError::Tokenizer {
            source:
                TokenizerError::Encode { row, .. } | TokenizerError::NoTokens { row } | TokenizerError::NoVector { row, .. },
            ..
        } => {
            let chunk = chunks.id(row).map_or_else(|| format!("chunk {row}"), |id| format!("chunk {id:?}"));
            StageError::new(error.reason(), format!("cannot embed {chunk}")).caused_by(error)
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_may_pass_is_never_a_fallback() {
        let transient = [
            FailureReason::HubUnavailable,
            FailureReason::DeviceBusy,
            FailureReason::DeviceLost,
            FailureReason::StorageFull,
            FailureReason::StoreUnavailable,
            FailureReason::SourceUnavailable,
            FailureReason::ModelUnavailable,
            FailureReason::Interrupted,
            FailureReason::Internal,
        ];
        for reason in transient {
            assert_eq!(fallback_reason(&StageError::new(reason, "x")), None, "{reason}");
        }
        let reason = |reason| fallback_reason(&StageError::new(reason, "x"));
        assert_eq!(reason(FailureReason::ModelNotFound), Some(FallbackReason::ModelUnavailable));
        assert_eq!(reason(FailureReason::ComputationFailed), Some(FallbackReason::ExecutionFailed));
        assert_eq!(reason(FailureReason::InvalidConfiguration), None);
    }
}
