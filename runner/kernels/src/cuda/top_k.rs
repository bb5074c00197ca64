//! The best documents of every query, kept while tiles of scores come by.

use super::{Address, Launch};

/// Threads of a block, which has a query.
const THREADS: u32 = 256;

/// The lists of all queries.
#[derive(Clone, Copy, Debug)]
pub struct Lists {
    /// The queries.
    pub queries: usize,
    /// Entries of a list, at most [`Lists::MOST`].
    pub k: usize,
    /// f32 `[queries, k]`, descending; -∞ where a list is not full.
    pub scores: Address,
    /// i64 `[queries, k]`; -1 where a list is not full.
    pub ordinals: Address,
}

impl Lists {
    /// The most entries of a list.
    pub const MOST: usize = 1024;

    /// Merges a `tile` of scores, f32 `[queries, documents]`, into the lists; `first` is the ordinal of its first document.
    /// Of equal scores the lower ordinal comes first; a score that is no number is left out. `None` if there is nothing.
    ///
    /// # Panics
    /// If the lists are too long.
    pub fn merge(&self, tile: Address, documents: usize, first: i64) -> Option<Launch> {
        assert!(self.k <= Self::MOST, "lists of at most {} entries", Self::MOST);
        if self.queries == 0 || self.k == 0 || documents == 0 {
            return None;
        }
        let arguments = vec![
            tile.into(),
            self.scores.into(),
            self.ordinals.into(),
            (documents as i32).into(),
            (self.k as i32).into(),
            first.into(),
        ];
        Some(Launch::linear("top_k".to_owned(), self.queries as u32, THREADS, arguments))
    }
}
