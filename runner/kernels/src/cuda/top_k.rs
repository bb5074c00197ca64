//! The top-k candidates of every query, merged over tiles of scores.

use super::{
    element::Element,
    launch::{Address, Argument, Launch},
    row_access::RowAccess,
};

/// The largest number of candidates of a list.
pub const MAX_CANDIDATES: usize = 1024;
/// Threads of a block.
const THREADS: usize = 128;

/// The best candidates of every query so far, the best first. Of equal scores the lower ordinal comes first; +0 comes
/// before -0, and NaN before all numbers. An empty entry has the score -∞ and the ordinal `u32::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lists {
    /// f32 `[queries, most]`: the scores. Every NaN is replaced by the same NaN.
    pub values: Address,
    /// u32 `[queries, most]`: the ordinals of the documents.
    pub ordinals: Address,
    /// The number of queries.
    pub queries: usize,
    /// The number of candidates of a list, at most [`MAX_CANDIDATES`].
    pub most: usize,
}

/// A tile of scores: some documents for every query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scores {
    /// The type of the scores.
    pub element: Element,
    /// `[queries, stride]`, of which the first `documents` columns are scores.
    pub scores: Address,
    /// The number of documents.
    pub documents: usize,
    /// Values from a query's scores to the next one's; at least `documents`.
    pub stride: usize,
    /// The ordinal of the first document; those of the others follow.
    pub first: u32,
}

impl Lists {
    /// Empties the lists. `None` if they have no entries.
    pub fn start(&self) -> Option<Launch> {
        let count = self.queries * self.most;
        let blocks = u32::try_from(count.div_ceil(THREADS)).expect("fewer than 2^32 blocks");
        let arguments = vec![self.values.into(), self.ordinals.into(), (count as i64).into()];
        (count > 0).then(|| Launch::linear("top_k", "top_k_start".into(), blocks, THREADS as u32, arguments))
    }

    /// Merges the scores of documents that have not been merged before. The result does not depend on the order and the
    /// size of the tiles. `None` if there are no scores.
    ///
    /// # Panics
    /// If a list is too long, rows of scores overlap, an ordinal is not below `u32::MAX`, or there are 2³¹ queries or
    /// more.
    pub fn merge(&self, tile: Scores) -> Option<Launch> {
        let Self { values, ordinals, queries, most } = *self;
        let Scores { element, scores, documents, stride, first } = tile;
        assert!(most <= MAX_CANDIDATES, "lists of at most {MAX_CANDIDATES} candidates");
        assert!(stride >= documents, "rows do not overlap");
        assert!(u32::try_from(first as usize + documents).is_ok(), "ordinals of 32 bits");
        Argument::count(queries);
        let arguments = vec![
            scores.into(),
            values.into(),
            ordinals.into(),
            Argument::count(documents),
            (stride as i64).into(),
            first.cast_signed().into(),
            (most as i32).into(),
        ];
        let kernel = RowAccess::of(element, stride, &[scores]).kernel("top_k");
        (queries > 0 && documents > 0 && most > 0)
            .then(|| Launch::linear("top_k", kernel, queries as u32, THREADS as u32, arguments))
    }
}
