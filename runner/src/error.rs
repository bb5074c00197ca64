//! The error of a stage: its class, one sentence that a user can act on, and the cause below it.

use std::{error::Error as StdError, io};

use crds::contract::FailureReason;

use crate::model::ModelError;

/// What the stages return.
pub type Result<T, E = StageError> = std::result::Result<T, E>;

/// A cause of any type.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a stage failed. The reason decides the exit code ([`FailureReason::exit_code`]); the message names the
/// file, line, field, model or shard.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// The class of the failure.
    pub reason: FailureReason,
    message: String,
    #[source]
    source: Option<Cause>,
}

impl StageError {
    /// A failure that has no cause below it.
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), source: None }
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Cause>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The message and every cause below it that adds something, as one line.
    pub fn sentence(&self) -> String {
        let mut sentence = self.message.clone();
        let mut next = self.source.as_deref().map(|source| source as &(dyn StdError + 'static));
        while let Some(error) = next {
            let text = error.to_string();
            if !sentence.contains(&text) {
                sentence.push_str(": ");
                sentence.push_str(&text);
            }
            next = error.source();
        }
        sentence.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }
}

impl From<ModelError> for StageError {
    fn from(error: ModelError) -> Self {
        // Its text is the sentence; only what lies below it is a cause.
        Self { reason: error.reason(), message: error.to_string(), source: Some(error.into()) }
    }
}

/// A failure of the output store. The class is read from the cause: no space, no right to write, or anything else.
pub fn output_error(message: impl Into<String>, cause: impl Into<Cause>) -> StageError {
    let cause = cause.into();
    StageError::new(classify(cause.as_ref()), message).caused_by(cause)
}

/// The class of a failure of the store, by the deepest thing known about it.
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
            // An error that is wrapped in an io::Error is no `source` of it.
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
    fn other_kinds_are_told_apart() {
        let reason = |kind: io::ErrorKind| output_error("x", io::Error::from(kind)).reason;
        assert_eq!(reason(io::ErrorKind::QuotaExceeded), FailureReason::StorageFull);
        assert_eq!(reason(io::ErrorKind::PermissionDenied), FailureReason::OutputNotWritable);
        assert_eq!(reason(io::ErrorKind::ReadOnlyFilesystem), FailureReason::OutputNotWritable);
        assert_eq!(reason(io::ErrorKind::TimedOut), FailureReason::StoreUnavailable);
    }

    #[test]
    fn a_sentence_says_nothing_twice() {
        let error = output_error("cannot write pvc://vectors/x", Wrapped(io::Error::other("gone")));
        assert_eq!(error.sentence(), "cannot write pvc://vectors/x: writing a part: gone");
    }
}
