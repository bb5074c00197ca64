//! What rows count for in a budget of tokens.

use super::RowModel;
use crate::{memory::Memory, text::Tokens};

/// What rows count for in a budget of tokens: as their tokens, and where memory has a ceiling, a row that takes some
/// beside them as that many more. Otherwise a budget that long rows fit into would let in too many short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Tokens that a row counts for beside its own.
    pub(super) beside: usize,
}

impl Weight {
    /// Of the rows of a model, which are computed in this memory.
    pub(super) fn of<M: RowModel<I>, I>(model: &M, memory: &Memory) -> Self {
        if memory.limit().is_none() {
            return Self { beside: 0 };
        }
        Self { beside: usize::try_from(model.bytes_per_row().div_ceil(model.bytes_per_token().max(1))).unwrap_or(0) }
    }

    /// Of one row.
    pub(super) fn row(self, tokens: &Tokens) -> usize {
        tokens.ids.len() + self.beside
    }

    /// Of the rows of a batch.
    pub(super) fn rows<'a>(self, rows: impl IntoIterator<Item = &'a Tokens>) -> usize {
        rows.into_iter().map(|tokens| self.row(tokens)).sum()
    }
}
