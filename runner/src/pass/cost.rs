//! The cost of a row in a token budget.

use super::RowModel;
use crate::{device::memory::Memory, tokenizer::Tokens};

/// The cost of rows in a token budget: their tokens, and under a memory ceiling also the memory that a row takes beside
/// its tokens, as a number of tokens. Without the second part, a budget for long rows would admit too many short ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowCost {
    /// The cost of a row beside its tokens, in tokens.
    pub(super) overhead: usize,
}

impl RowCost {
    /// The costs for a model that runs in this memory.
    pub(super) fn of<M: RowModel<I>, I>(model: &M, memory: &Memory) -> Self {
        if memory.limit().is_none() {
            return Self { overhead: 0 };
        }
        Self { overhead: usize::try_from(model.bytes_per_row().div_ceil(model.bytes_per_token().max(1))).unwrap_or(0) }
    }

    /// The cost of one row, in tokens.
    pub(super) fn of_row(self, tokens: &Tokens) -> usize {
        tokens.ids.len() + self.overhead
    }

    /// The cost of the rows of a batch, in tokens.
    pub(super) fn of_rows<'a>(self, rows: impl IntoIterator<Item = &'a Tokens>) -> usize {
        rows.into_iter().map(|tokens| self.of_row(tokens)).sum()
    }
}
