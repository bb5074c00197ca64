//! Why a pass ended early.

use crate::model::ModelError;

/// Why a pass ended early. `E` is the error of the source and of the sink.
#[derive(Debug, thiserror::Error)]
pub enum PassError<E> {
    /// The model failed; a row in the error is counted from the first item of the pass, from 0.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The items cannot be read.
    #[error("cannot read the texts")]
    Source(#[source] E),
    /// The sink failed.
    #[error("cannot store the vectors")]
    Sink(#[source] E),
    /// The pass was cancelled.
    #[error("cancelled")]
    Cancelled,
}
