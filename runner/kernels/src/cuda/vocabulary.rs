//! Sparse vectors from the scores of vocabulary entries.
//!
//! The product of hidden states and vocabulary is computed a tile of entries at a time. [`Tile::launch`] reduces each tile
//! to the largest score per sequence. From these weights, [`count`] and [`offsets`] compute the size of each sparse
//! vector, and [`write()`] writes the entries.

use super::{
    element::Element,
    launch::{Address, Argument, Launch},
    pooling::PackedSequences,
    row_access::RowAccess,
};

const SOURCE: &str = "vocabulary";
/// Threads of a block.
const THREADS: u32 = 256;
/// Threads of a block that share its entries.
const ENTRY_THREADS: usize = 32;

/// A tile of vocabulary entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The type of the scores.
    pub element: Element,
    /// The index of the first entry.
    pub first: usize,
    /// The number of entries of the tile.
    pub width: usize,
    /// Values from the scores of a token to those of the next; at least `width`. A multiple of 16 bytes is read faster.
    pub stride: usize,
    /// The number of entries of the whole vocabulary.
    pub entries: usize,
    /// Whether a score is replaced by log(1 + max(score, 0)), as in SPLADE.
    pub logarithm: bool,
}

impl Tile {
    /// For each sequence and entry of the tile, the largest of the `scores` (`[tokens, stride]`, of the element's type) of
    /// the sequence's tokens plus the `bias` of the entry; NaN if a score is NaN. The `bias` is f32 `[entries]`, or absent.
    /// The result is written to the columns of the tile in `out`, f32 `[sequences, entries]`. `None` if the tile or the
    /// batch is empty.
    ///
    /// # Panics
    /// If the tile exceeds the entries or the stride, or there are 2³¹ blocks or more: a sequence has one block for at
    /// most 256 entries.
    pub fn launch(&self, scores: Address, sequences: PackedSequences, bias: Address, out: Address) -> Option<Launch> {
        let Self { element, first, width, stride, entries, logarithm } = *self;
        assert!(first + width <= entries && stride >= width, "a tile within the entries and the stride");
        if sequences.count == 0 || width == 0 {
            return None;
        }
        let access = RowAccess::of(element, stride, &[scores]);
        let blocks = width.div_ceil(ENTRY_THREADS * access.chunk_size());
        Argument::count(blocks * sequences.count);
        let from_first = |at: Address| if at.is_present() { Address(at.0 + 4 * first as u64) } else { at };
        Some(Launch {
            source: SOURCE,
            kernel: access.kernel("vocabulary"),
            grid: [(blocks * sequences.count) as u32, 1, 1],
            block: [ENTRY_THREADS as u32, THREADS / ENTRY_THREADS as u32, 1],
            shared_bytes: 0,
            arguments: vec![
                scores.into(),
                sequences.starts.into(),
                from_first(bias).into(),
                from_first(out).into(),
                (width as i32).into(),
                (stride as i64).into(),
                (entries as i64).into(),
                (blocks as i32).into(),
                i32::from(logarithm).into(),
            ],
        })
    }
}

/// The entries that sparse vectors keep of rows of weights, f32 `[rows, entries]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// The weights.
    pub weights: Address,
    /// The number of rows.
    pub rows: usize,
    /// The number of entries of a row.
    pub entries: usize,
    /// Only entries with a weight above this are kept.
    pub threshold: f32,
    /// The largest number of entries that are kept, those with the largest weights; all if `None`. Of equal weights the
    /// lower index comes first.
    pub most: Option<usize>,
}

/// The sizes of the sparse vectors, computed before their entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryCounts {
    /// u32 `[rows]`: the number of entries that a row keeps.
    pub counts: Address,
    /// u32 `[rows, 2]`: the cut of a row, the rank of its smallest kept weight and the number of ties that are kept.
    pub cuts: Address,
    /// u32 `[rows]`: 1 if all weights of a row are finite, otherwise 0; or absent.
    pub finite: Address,
}

/// Counts the entries that each row keeps. `None` if there are no rows.
///
/// # Panics
/// If there are 2³¹ rows or entries, or more.
pub fn count(selection: Selection, out: EntryCounts) -> Option<Launch> {
    let Selection { weights, rows, entries, threshold, most } = selection;
    Argument::count(rows);
    let most = most.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX));
    let arguments = vec![
        weights.into(),
        out.counts.into(),
        out.cuts.into(),
        out.finite.into(),
        Argument::count(entries),
        threshold.into(),
        most.cast_signed().into(),
    ];
    (rows > 0).then(|| Launch::linear(SOURCE, "sparse_count".into(), rows as u32, THREADS, arguments))
}

/// The exclusive prefix sums of the `counts` (u32 `[rows]`) and their total: `offsets` is i64 `[rows + 1]`. `None` if there
/// are no rows; then no offsets are written.
///
/// # Panics
/// If there are 2³¹ rows or more.
pub fn offsets(rows: usize, counts: Address, offsets: Address) -> Option<Launch> {
    let arguments = vec![counts.into(), offsets.into(), Argument::count(rows)];
    (rows > 0).then(|| Launch::linear(SOURCE, "sparse_offsets".into(), 1, THREADS, arguments))
}

/// The output arrays for entries, one row after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// u32 `[capacity]`, ascending within a row.
    pub indices: Address,
    /// f32 `[capacity]`, the weights.
    pub values: Address,
    /// The length of the arrays; entries beyond it are not written.
    pub capacity: usize,
}

/// Writes the entries of each row from its offset on. `cuts` and `offsets` are the outputs of [`count`] and [`offsets()`]
/// for the same `selection`. `None` if there are no rows, or the arrays have no room.
///
/// # Panics
/// If there are 2³¹ rows or entries, or more.
pub fn write(selection: Selection, cuts: Address, offsets: Address, to: Entries) -> Option<Launch> {
    let Selection { weights, rows, entries, threshold, .. } = selection;
    Argument::count(rows);
    let arguments = vec![
        weights.into(),
        cuts.into(),
        offsets.into(),
        to.indices.into(),
        to.values.into(),
        Argument::count(entries),
        threshold.into(),
        (to.capacity as i64).into(),
    ];
    (rows > 0 && to.capacity > 0)
        .then(|| Launch::linear(SOURCE, "sparse_write".into(), rows as u32, THREADS, arguments))
}
