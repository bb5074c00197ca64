//! Scores of vocabulary entries to sparse vectors.
//!
//! The product of hidden states and vocabulary is made a tile of entries at a time; [`Tile::launch`] keeps the largest
//! score of each sequence. Of the weights, [`count`] and [`offsets`] tell how many entries the sparse vectors have, and
//! [`write()`] writes them.

use super::{
    Address, Element, Launch,
    norm::count_argument,
    pooling::{Form, Ranges},
};

const SOURCE: &str = "vocabulary";
/// Threads of a block, and those that share its entries.
const THREADS: u32 = 256;
const ENTRY_THREADS: usize = 32;

/// A tile of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The type of the scores.
    pub element: Element,
    /// The index of the first entry.
    pub first: usize,
    /// The number of entries of the tile.
    pub width: usize,
    /// Values from a token's scores to those of the next; at least `width`. Whole vectors of 16 bytes are read faster.
    pub stride: usize,
    /// The number of all entries.
    pub entries: usize,
    /// Whether log(1 + max(x, 0)) is taken, as SPLADE does.
    pub logarithm: bool,
}

impl Tile {
    /// For each sequence and entry of the tile the largest of the `scores` (`[tokens, stride]`, of the element's type)
    /// of its tokens, plus the entry's `bias`: f32 `[entries]`, all of the vocabulary, or absent. They go to the tile's
    /// columns of `out`, f32 `[sequences, entries]`. NaN if a score is. `None` if there is nothing to write.
    ///
    /// # Panics
    /// If the tile is not within the entries or the stride, or there are too many blocks: a sequence has one for every
    /// 256 entries, or fewer.
    pub fn launch(&self, scores: Address, sequences: Ranges, bias: Address, out: Address) -> Option<Launch> {
        let Self { element, first, width, stride, entries, logarithm } = *self;
        assert!(first + width <= entries && stride >= width, "a tile of the entries");
        if sequences.count == 0 || width == 0 {
            return None;
        }
        let form = Form::of(element, stride, &[scores]);
        let blocks = width.div_ceil(ENTRY_THREADS * form.size());
        count_argument(blocks * sequences.count);
        let of_tile = |at: Address| if at.is_present() { Address(at.0 + 4 * first as u64) } else { at };
        Some(Launch {
            source: SOURCE,
            kernel: form.kernel("vocabulary"),
            grid: [(blocks * sequences.count) as u32, 1, 1],
            block: [ENTRY_THREADS as u32, THREADS / ENTRY_THREADS as u32, 1],
            shared_bytes: 0,
            arguments: vec![
                scores.into(),
                sequences.starts.into(),
                of_tile(bias).into(),
                of_tile(out).into(),
                (width as i32).into(),
                (stride as i64).into(),
                (entries as i64).into(),
                (blocks as i32).into(),
                i32::from(logarithm).into(),
            ],
        })
    }
}

/// What is kept of rows of weights, f32 `[rows, entries]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Selection {
    /// The weights.
    pub weights: Address,
    /// The number of rows.
    pub rows: usize,
    /// The number of entries of a row.
    pub entries: usize,
    /// Entries whose weight is not above this are left out.
    pub threshold: f32,
    /// The entries with the largest weights that are kept; of equal weights the lower index comes first.
    pub most: Option<usize>,
}

/// What is known of the rows before entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// u32 `[rows]`: how many entries a row keeps.
    pub counts: Address,
    /// u32 `[rows, 2]`: where the kept weights of a row end.
    pub cuts: Address,
    /// u32 `[rows]`: 1 if all weights of a row are finite, else 0; or absent.
    pub finite: Address,
}

/// Counts the entries that are kept. `None` if there are no rows.
///
/// # Panics
/// If there are 2³¹ rows or entries, or more.
pub fn count(selection: Selection, counted: Counted) -> Option<Launch> {
    let Selection { weights, rows, entries, threshold, most } = selection;
    count_argument(rows);
    let most = most.map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX));
    let arguments = vec![
        weights.into(),
        counted.counts.into(),
        counted.cuts.into(),
        counted.finite.into(),
        count_argument(entries),
        threshold.into(),
        most.cast_signed().into(),
    ];
    (rows > 0).then(|| Launch::linear(SOURCE, "sparse_count".into(), rows as u32, THREADS, arguments))
}

/// The sums of the `counts` (u32 `[rows]`) before each row, and of all of them: `offsets` is i64 `[rows + 1]`. `None`
/// if there are no rows, and no offsets are written.
///
/// # Panics
/// If there are 2³¹ rows or more.
pub fn offsets(rows: usize, counts: Address, offsets: Address) -> Option<Launch> {
    let arguments = vec![counts.into(), offsets.into(), count_argument(rows)];
    (rows > 0).then(|| Launch::linear(SOURCE, "sparse_offsets".into(), 1, THREADS, arguments))
}

/// Where entries are written, one row after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// u32 `[capacity]`, ascending in a row.
    pub indices: Address,
    /// f32 `[capacity]`.
    pub values: Address,
    /// The entries that there is place for; others are not written.
    pub capacity: usize,
}

/// Writes the entries of each row from its offset on: `cuts` and `offsets` are those of [`count`] and [`offsets()`] for
/// the same `selection`. `None` if there is nothing to write, or no place for it.
///
/// # Panics
/// If there are 2³¹ rows or entries, or more.
pub fn write(selection: Selection, cuts: Address, offsets: Address, to: Entries) -> Option<Launch> {
    let Selection { weights, rows, entries, threshold, .. } = selection;
    count_argument(rows);
    let arguments = vec![
        weights.into(),
        cuts.into(),
        offsets.into(),
        to.indices.into(),
        to.values.into(),
        count_argument(entries),
        threshold.into(),
        (to.capacity as i64).into(),
    ];
    (rows > 0 && to.capacity > 0)
        .then(|| Launch::linear(SOURCE, "sparse_write".into(), rows as u32, THREADS, arguments))
}
