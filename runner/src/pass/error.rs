//! Why a pass ended early.

use crate::model::ModelError;

/// Why a pass ended early. `E` is the error of the source and of the sink.
#[derive(Debug, thiserror::Error)]
pub enum PassError<E> {
    /// The model failed; a row in the error counts from the first item of the pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The items cannot be read.
    #[error("the texts cannot be read")]
    Source(#[source] E),
    /// The sink failed.
    #[error("the vectors cannot be stored")]
    Sink(#[source] E),
    /// The pass was cancelled.
    #[error("cancelled")]
    Cancelled,
}
