//! Failures of the output store and of local disk space.

use super::fault::Fault;
use crate::process::error::{Cause, StageError};

/// A failure of the output store or of local disk space. The cause decides its reason: `StorageFull`,
/// `OutputNotWritable` or `StoreUnavailable`.
pub fn output_error(message: impl Into<String>, cause: impl Into<Cause>) -> StageError {
    let cause = cause.into();
    StageError::new(Fault::of(cause.as_ref()).of_output(), message).caused_by(cause)
}

/// A failure to read a source or a file of queries. The cause decides its reason: `SourceNotFound`, `InvalidFile` or
/// `SourceUnavailable`, which is tried again.
pub fn source_error(message: impl Into<String>, cause: impl Into<Cause>) -> StageError {
    let cause = cause.into();
    StageError::new(Fault::of(cause.as_ref()).of_source(), message).caused_by(cause)
}

#[cfg(test)]
mod tests {
    use std::io;

    use crds::contract::FailureReason;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("writing a part")]
    struct Wrapped(#[source] io::Error);

    #[test]
    fn a_full_disk_is_found_anywhere_in_the_chain() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let nested: [Cause; 4] = [
            full().into(),
            Wrapped(full()).into(),
            io::Error::other(Wrapped(full())).into(),
            object_store::Error::Generic { store: "test", source: io::Error::other(Wrapped(full())).into() }.into(),
        ];
        for cause in nested {
            assert_eq!(output_error("x", cause).reason, FailureReason::StorageFull);
        }
    }

    #[test]
    fn the_reason_depends_on_the_kind_of_the_error() {
        let reason = |kind: io::ErrorKind| output_error("x", io::Error::from(kind)).reason;
        assert_eq!(reason(io::ErrorKind::QuotaExceeded), FailureReason::StorageFull);
        assert_eq!(reason(io::ErrorKind::PermissionDenied), FailureReason::OutputNotWritable);
        assert_eq!(reason(io::ErrorKind::ReadOnlyFilesystem), FailureReason::OutputNotWritable);
        assert_eq!(reason(io::ErrorKind::TimedOut), FailureReason::StoreUnavailable);
    }

    #[test]
    fn a_sentence_does_not_repeat_a_cause() {
        let error = output_error("cannot write pvc://vectors/x", Wrapped(io::Error::other("gone")));
        assert_eq!(error.sentence(), "cannot write pvc://vectors/x: writing a part: gone");
    }
}
