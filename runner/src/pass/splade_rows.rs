//! SPLADE as a row model: a row is a sparse vector, or the reason why the model could not compute it.

use std::num::NonZeroUsize;

use crds::{contract::ExitCode, v1alpha1::FallbackReason};

use super::RowModel;
use crate::{
    model::{ModelError, Side, SpladeModel},
    tokenizer::Tokens,
    vectors::SparseVector,
};

/// A row of a sparse pass.
#[derive(Clone, Debug, PartialEq)]
pub enum SparseRow {
    /// The vector that the model computed.
    Vector(SparseVector),
    /// The model failed for this row: the reason and the error.
    Missing(FallbackReason, String),
}

impl<T: AsRef<str> + Send + Sync> RowModel<T> for SpladeModel {
    type Rows = Vec<SparseRow>;

    fn name(&self) -> &str {
        self.name()
    }

    fn bytes_per_token(&self) -> u64 {
        self.bytes_per_token()
    }

    fn bytes_per_row(&self) -> u64 {
        // The weights of a whole vocabulary, and room for the entries that are selected.
        2 * size_of::<f32>() as u64 * self.vocabulary() as u64
    }

    fn longest(&self) -> usize {
        self.tokenizer().max_tokens().document
    }

    fn size(text: &T) -> usize {
        text.as_ref().len()
    }

    fn encode_items(&self, texts: &[T], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError> {
        self.encode_batch(texts, Side::Document, threads)
    }

    fn compute(&self, rows: &[&Tokens]) -> Result<Self::Rows, ModelError> {
        Ok(self.embed(rows)?.into_iter().map(SparseRow::Vector).collect())
    }

    fn empty(&self, count: usize) -> Self::Rows {
        vec![SparseRow::Vector(SparseVector::default()); count]
    }

    fn placeholder(&self, error: &ModelError) -> Option<Self::Rows> {
        let reason = match error {
            // Every further row would fail too, and another attempt may compute all rows.
            error if error.reason().exit_code() == ExitCode::Transient => return None,
            ModelError::OutOfMemory { .. } => FallbackReason::OutOfMemory,
            _ => FallbackReason::ExecutionFailed,
        };
        self.options().tolerant.then(|| vec![SparseRow::Missing(reason, error.to_string())])
    }
}
