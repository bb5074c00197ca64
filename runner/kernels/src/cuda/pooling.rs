//! Token vectors to one vector per sequence, and what else is done with whole rows.

use super::{
    Address, Element, Launch,
    norm::{count_argument, vector},
};

const SOURCE: &str = "pooling";
/// The most threads of a block, and those that share the columns.
const THREADS: usize = 512;
const COLUMN_THREADS: usize = 128;
/// Rows of a block whose warps have a row each.
const ROWS: usize = 4;
const WARP: usize = 32;

/// How the token vectors of a sequence become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token.
    Cls = 0,
    /// The mean of the token vectors.
    Mean = 1,
    /// The vector of the last token.
    LastToken = 2,
    /// The maximum of the token vectors, per dimension; NaN if one of them is.
    Max = 3,
    /// The mean with the weights 1, 2, 3, ….
    WeightedMean = 4,
    /// The sum of the token vectors divided by the root of their number.
    MeanSqrtLength = 5,
}

/// The sequences of packed rows; none is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// i32 `[count + 1]`: where each sequence starts, and where the last ends. If absent, every row is a sequence.
    pub starts: Address,
    /// The number of sequences.
    pub count: usize,
}

/// A pooling, but for what it reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The type of the token vectors.
    pub element: Element,
    /// How they become one.
    pub pooling: Pooling,
    /// The width of a token vector.
    pub width: usize,
    /// The columns that are pooled, the first ones; at most `width`.
    pub dimensions: usize,
    /// Whether what is pooled is divided by its length, but by no less than 10⁻¹².
    pub normalise: bool,
    /// i32 `[sequences]`: the leading tokens of each sequence that are left out, but for its last token; or absent. The
    /// first token's vector is that of the sequence's first token all the same.
    pub leading: Address,
}

impl Pool {
    /// `x` `[tokens, width]` of the element's type to `out`, f32 `[sequences, dimensions]`. `None` if there are no
    /// sequences or dimensions.
    ///
    /// # Panics
    /// If there are more dimensions than columns, or 2³¹ sequences or more.
    pub fn launch(&self, x: Address, sequences: Ranges, out: Address) -> Option<Launch> {
        let Self { element, pooling, width, dimensions, normalise, leading } = *self;
        assert!(dimensions <= width, "dimensions that there are");
        if sequences.count == 0 || dimensions == 0 {
            return None;
        }
        let form = Form::of(element, width, &[x]);
        let threads = form.chunks(dimensions).min(COLUMN_THREADS);
        let leading = if pooling == Pooling::Cls { Address::ABSENT } else { leading };
        count_argument(sequences.count);
        Some(Launch {
            source: SOURCE,
            kernel: form.kernel("pooling"),
            grid: [sequences.count as u32, 1, 1],
            // A warp of them sums up the squares.
            block: [threads as u32, (THREADS / threads) as u32, 1],
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

/// Which row of a sequence is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The first.
    First,
    /// The last.
    Last,
}

/// The kept row of every sequence: `x` `[tokens, width]` to `out` `[sequences, width]`, both of the element's type.
/// `None` if there are no values.
///
/// # Panics
/// If there are 2³¹ sequences or more.
pub fn kept_rows(
    element: Element,
    kept: Kept,
    width: usize,
    x: Address,
    sequences: Ranges,
    out: Address,
) -> Option<Launch> {
    if sequences.count == 0 || width == 0 {
        return None;
    }
    let form = Form::of(element, width, &[x, out]);
    let threads = form.chunks(width).min(COLUMN_THREADS);
    let rows = COLUMN_THREADS / threads;
    Some(Launch {
        source: SOURCE,
        kernel: form.kernel("kept_rows"),
        grid: [sequences.count.div_ceil(rows) as u32, 1, 1],
        block: [threads as u32, rows as u32, 1],
        shared_bytes: 0,
        arguments: vec![
            x.into(),
            sequences.starts.into(),
            out.into(),
            count_argument(sequences.count),
            (width as i32).into(),
            i32::from(kept == Kept::Last).into(),
        ],
    })
}

/// Whether all values of a row are finite, for each row of `x` `[rows, width]` of the element's type: `flags` is
/// u32 `[rows]`, 1 if they are and else 0. `None` if there are no rows.
///
/// # Panics
/// If there are 2³¹ rows or more.
pub fn finite(element: Element, [rows, width]: [usize; 2], x: Address, flags: Address) -> Option<Launch> {
    (rows > 0).then(|| Launch {
        source: SOURCE,
        kernel: Form::of(element, width, &[x]).kernel("finite"),
        grid: [rows.div_ceil(ROWS) as u32, 1, 1],
        block: [WARP as u32, ROWS as u32, 1],
        shared_bytes: 0,
        arguments: vec![x.into(), flags.into(), count_argument(rows), (width as i32).into()],
    })
}

/// Whether rows are read as vectors or value by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    element: Element,
    vectors: bool,
}

impl Form {
    /// For rows of `width` at these addresses.
    pub(super) fn of(element: Element, width: usize, addresses: &[Address]) -> Self {
        let aligned = addresses.iter().all(|address| address.is_aligned_to(16));
        Self { element, vectors: aligned && width.is_multiple_of(vector(element)) }
    }

    /// The name of the kernel.
    pub(super) fn kernel(self, name: &str) -> String {
        format!("{name}_{}_{}", if self.vectors { "vectors" } else { "values" }, self.element.suffix())
    }

    /// The vectors, or values, that so many columns are in.
    pub(super) fn chunks(self, columns: usize) -> usize {
        columns.div_ceil(self.size())
    }

    /// The values of one.
    pub(super) fn size(self) -> usize {
        if self.vectors { vector(self.element) } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(element: Element, width: usize, dimensions: usize) -> Launch {
        let leading = Address(256);
        let pool = Pool { element, pooling: Pooling::Cls, width, dimensions, normalise: true, leading };
        let sequences = Ranges { starts: Address(512), count: 9 };
        pool.launch(Address(1024), sequences, Address(2048)).expect("a launch")
    }

    #[test]
    fn blocks_have_whole_sequences() {
        let found = pool(Element::F16, 384, 384);
        assert_eq!((found.kernel.as_str(), found.grid, found.block), ("pooling_vectors_f16", [9, 1, 1], [48, 10, 1]));
        assert_eq!(found.arguments[2], Address::ABSENT.into());
        let found = pool(Element::F32, 33, 20);
        assert_eq!((found.kernel.as_str(), found.block), ("pooling_values_f32", [20, 25, 1]));
        assert_eq!(pool(Element::F16, 4096, 4096).block, [128, 4, 1]);
        assert_eq!(pool(Element::F16, 8, 1).block, [1, 512, 1]);
    }

    #[test]
    fn nothing_is_no_launch() {
        let none = Ranges { starts: Address(512), count: 0 };
        assert_eq!(kept_rows(Element::F16, Kept::Last, 8, Address(256), none, Address(256)), None);
        assert_eq!(finite(Element::F32, [0, 8], Address(256), Address(512)), None);
    }
}
