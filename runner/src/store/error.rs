//! Failures of the output store and of local disk space, classified by their cause.

use std::{error::Error as StdError, io};

use crds::contract::FailureReason;

use crate::process::error::{Cause, StageError};

/// A failure of the output store or of local disk space. The cause decides its reason: `StorageFull`,
/// `OutputNotWritable` or `StoreUnavailable`.
pub fn output_error(message: impl Into<String>, cause: impl Into<Cause>) -> StageError {
    let cause = cause.into();
    StageError::new(classify(cause.as_ref()), message).caused_by(cause)
}

/// The reason of a failure, by the first known error in the chain of causes.
fn classify(error: &(dyn StdError + 'static)) -> FailureReason {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }) =
            error.downcast_ref()
        {
            return FailureReason::OutputNotWritable;
        }
        let Some(io) = error.downcast_ref::<io::Error>() else {
            next = error.source();
            continue;
        };
        match io.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => return FailureReason::StorageFull,
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            // A file system without hard links, which writing at most once needs.
            | io::ErrorKind::Unsupported
            | io::ErrorKind::AlreadyExists => return FailureReason::OutputNotWritable,
            // The `source` of an io::Error skips the error that it wraps.
            _ => next = io.get_ref().map(|inner| inner as &(dyn StdError + 'static)).or_else(|| io.source()),
        }
    }
    FailureReason::StoreUnavailable
}

#[cfg(test)]
mod tests {
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
