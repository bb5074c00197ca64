//! The interface between the engine and a model.

use std::num::NonZeroUsize;

use super::batching::WindowRows;
use crate::{model::ModelError, tokenizer::Tokens};

/// A model that computes rows from items of type `I`.
pub trait RowModel<I>: Sync {
    /// The rows of a batch or a window.
    type Rows: WindowRows;

    /// The name of the model in the spec.
    fn name(&self) -> &str;

    /// The estimated memory of a token while its batch is computed, in bytes.
    fn bytes_per_token(&self) -> u64;

    /// The estimated memory of a row beside its tokens while its batch is computed, in bytes.
    fn bytes_per_row(&self) -> u64 {
        0
    }

    /// The length of the longest sequence in tokens.
    fn longest(&self) -> usize;

    /// The size of an item's text in bytes.
    fn size(item: &I) -> usize;

    /// Tokenizes items in their order, with up to `threads` threads.
    ///
    /// # Errors
    /// If an item cannot be encoded; the error names its row.
    fn encode_items(&self, items: &[I], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError>;

    /// Computes one batch: row N out is row N in.
    ///
    /// # Errors
    /// If the device fails or a row is not finite; the error names its row.
    fn compute(&self, rows: &[&Tokens]) -> Result<Self::Rows, ModelError>;

    /// `count` rows as placeholders, before they are computed.
    fn empty(&self, count: usize) -> Self::Rows;

    /// The row in place of one that failed with this error; `None` if the pass must fail.
    fn placeholder(&self, _: &ModelError) -> Option<Self::Rows> {
        None
    }
}
