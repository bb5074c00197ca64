//! Pooling of token vectors to one vector per sequence, selected rows, and rows that are not finite.

use super::{
    element::Element,
    launch::{Address, Argument, Launch},
    row_access::RowAccess,
};

const SOURCE: &str = "pooling";
/// The largest number of threads of a block.
const MAX_THREADS: usize = 512;
/// The largest number of threads that share the columns of a row.
const MAX_COLUMN_THREADS: usize = 128;
/// Rows of a block in which each warp has a row of its own.
const WARP_ROWS: usize = 4;
const WARP: usize = 32;

/// The pooling mode: how the token vectors of a sequence become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token that is pooled.
    Cls = 0,
    /// The mean of the token vectors.
    Mean = 1,
    /// The vector of the last token.
    LastToken = 2,
    /// The maximum of the token vectors, per dimension; NaN if a value is NaN.
    Max = 3,
    /// The weighted mean, with the weights 1, 2, 3, … by position.
    WeightedMean = 4,
    /// The sum of the token vectors divided by the square root of their number.
    MeanSqrtLength = 5,
}

/// The sequences of packed rows; none is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedSequences {
    /// i32 `[count + 1]`: the start of each sequence and the end of the last (`cu_seqlens`). If absent, every row is a
    /// sequence.
    pub starts: Address,
    /// The number of sequences.
    pub count: usize,
}

/// The parameters of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The type of the token vectors.
    pub element: Element,
    /// The pooling mode.
    pub pooling: Pooling,
    /// The width of a token vector.
    pub width: usize,
    /// The number of leading columns that are pooled; at most `width`.
    pub dimensions: usize,
    /// Whether the pooled vector is divided by max(its Euclidean length, 10⁻¹²).
    pub normalise: bool,
    /// i32 `[sequences]`: the number of leading tokens of each sequence that are not pooled, for example those of a prompt;
    /// or absent. The last token of a sequence is always pooled. Positions are counted from the beginning of the sequence.
    pub leading: Address,
}

impl Pool {
    /// Pools `x`, `[tokens, width]` of the element's type, to `out`, f32 `[sequences, dimensions]`. `None` if there are no
    /// sequences or no dimensions.
    ///
    /// # Panics
    /// If there are more dimensions than columns, or 2³¹ sequences or more.
    pub fn launch(&self, x: Address, sequences: PackedSequences, out: Address) -> Option<Launch> {
        let Self { element, pooling, width, dimensions, normalise, leading } = *self;
        assert!(dimensions <= width, "no more dimensions than columns");
        if sequences.count == 0 || dimensions == 0 {
            return None;
        }
        let access = RowAccess::of(element, width, &[x]);
        let threads = access.chunks(dimensions).min(MAX_COLUMN_THREADS);
        Argument::count(sequences.count);
        Some(Launch {
            source: SOURCE,
            kernel: access.kernel("pooling"),
            grid: [sequences.count as u32, 1, 1],
            // One warp of these threads sums the squares.
            block: [threads as u32, (MAX_THREADS / threads) as u32, 1],
            shared_bytes: 0,
            arguments: vec![
                x.into(),
                sequences.starts.into(),
                leading.into(),
                out.into(),
                (width as i32).into(),
                (dimensions as i32).into(),
                (pooling as i32).into(),
                i32::from(normalise).into(),
            ],
        })
    }
}

/// The row of each sequence that is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectedRow {
    /// The first row.
    First,
    /// The last row.
    Last,
}

/// Copies one row of every sequence: `x` `[tokens, width]` to `out` `[sequences, width]`, both of the element's type.
/// `None` if there are no values.
///
/// # Panics
/// If there are 2³¹ sequences or more.
pub fn select_rows(
    element: Element,
    row: SelectedRow,
    width: usize,
    x: Address,
    sequences: PackedSequences,
    out: Address,
) -> Option<Launch> {
    if sequences.count == 0 || width == 0 {
        return None;
    }
    let access = RowAccess::of(element, width, &[x, out]);
    let threads = access.chunks(width).min(MAX_COLUMN_THREADS);
    let rows = MAX_COLUMN_THREADS / threads;
    Some(Launch {
        source: SOURCE,
        kernel: access.kernel("kept_rows"),
        grid: [sequences.count.div_ceil(rows) as u32, 1, 1],
        block: [threads as u32, rows as u32, 1],
        shared_bytes: 0,
        arguments: vec![
            x.into(),
            sequences.starts.into(),
            out.into(),
            Argument::count(sequences.count),
            (width as i32).into(),
            i32::from(row == SelectedRow::Last).into(),
        ],
    })
}

/// Checks each row of `x`, `[rows, width]` of the element's type, for values that are not finite. `flags`, u32 `[rows]`, is
/// 1 for a row of finite values and 0 for any other. `None` if there are no rows.
///
/// # Panics
/// If there are 2³¹ rows or more.
pub fn finite(element: Element, [rows, width]: [usize; 2], x: Address, flags: Address) -> Option<Launch> {
    (rows > 0).then(|| Launch {
        source: SOURCE,
        kernel: RowAccess::of(element, width, &[x]).kernel("finite"),
        grid: [rows.div_ceil(WARP_ROWS) as u32, 1, 1],
        block: [WARP as u32, WARP_ROWS as u32, 1],
        shared_bytes: 0,
        arguments: vec![x.into(), flags.into(), Argument::count(rows), (width as i32).into()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(element: Element, width: usize, dimensions: usize) -> Launch {
        let leading = Address(256);
        let pool = Pool { element, pooling: Pooling::Cls, width, dimensions, normalise: true, leading };
        let sequences = PackedSequences { starts: Address(512), count: 9 };
        pool.launch(Address(1024), sequences, Address(2048)).expect("a launch")
    }

    #[test]
    fn a_block_has_a_whole_sequence() {
        let launched = pool(Element::F16, 384, 384);
        assert_eq!(
            (launched.kernel.as_str(), launched.grid, launched.block),
            ("pooling_vectors_f16", [9, 1, 1], [48, 10, 1])
        );
        assert_eq!(launched.arguments[2], Address(256).into());
        let launched = pool(Element::F32, 33, 20);
        assert_eq!((launched.kernel.as_str(), launched.block), ("pooling_values_f32", [20, 25, 1]));
        assert_eq!(pool(Element::F16, 4096, 4096).block, [128, 4, 1]);
        assert_eq!(pool(Element::F16, 8, 1).block, [1, 512, 1]);
    }

    #[test]
    fn no_rows_give_no_launch() {
        let none = PackedSequences { starts: Address(512), count: 0 };
        assert_eq!(select_rows(Element::F16, SelectedRow::Last, 8, Address(256), none, Address(256)), None);
        assert_eq!(finite(Element::F32, [0, 8], Address(256), Address(512)), None);
    }
}
