//! The messages between the threads of a pass: windows, batches and computed rows.

use std::sync::Arc;

use super::PassError;
use crate::{model::ModelError, tokenizer::Tokens};

/// Tokenized items that are cut into batches together.
pub(super) struct Window {
    /// The number of its first item among all items of the pass, from 0.
    pub(super) first: usize,
    pub(super) rows: Vec<Tokens>,
    /// Whether it is the last window.
    pub(super) last: bool,
}

/// A batch of a window, as indices of the window's rows.
pub(super) struct Job {
    pub(super) window: Arc<Window>,
    pub(super) rows: Vec<usize>,
}

impl Job {
    /// The rows of the batch.
    pub(super) fn tokens(&self) -> impl Iterator<Item = &Tokens> {
        self.rows.iter().map(|&row| &self.window.rows[row])
    }
}

/// A message to the caller's thread. `R` is the type of the rows, `E` the error of the source.
pub(super) enum Message<R, E> {
    /// A window is tokenized; sent before any of its batches.
    Opened(Arc<Window>),
    /// A replica, by its index, computed a batch or failed; with the duration in seconds.
    Computed { replica: usize, job: Job, rows: Result<R, ModelError>, batch_seconds: f64 },
    /// The pass ends early.
    Failed(PassError<E>),
}
