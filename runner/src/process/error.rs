//! The error of a stage: its reason, a message that a user can act on, and the cause.

use std::error::Error as StdError;

use crds::contract::FailureReason;

/// The result of a stage, or of a part of it.
pub type Result<T, E = StageError> = std::result::Result<T, E>;

/// The cause of a failure, of any type.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a stage failed. The reason decides the exit code ([`FailureReason::exit_code`]); the message names the
/// file, line, field, model or shard.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// The reason, for the exit code, the event and the condition.
    pub reason: FailureReason,
    message: String,
    #[source]
    source: Option<Cause>,
}

impl StageError {
    /// A failure without a cause.
    pub fn new(reason: FailureReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), source: None }
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Cause>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The message and its chain of causes as one line, without causes that the line already contains.
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
