//! Token vectors to one vector per sequence, cut and scaled to length 1.

use super::{Address, Element, Launch, attention::Sequences};

/// Threads of a block, which has a sequence.
const THREADS: u32 = 256;
/// The shortest that a vector is taken to be.
const LEAST_LENGTH: f32 = 1e-12;

/// How the token vectors of a sequence become its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token.
    First,
    /// The vector of the last token.
    Last,
    /// The mean.
    Mean,
    /// The sum divided by the root of the number of tokens.
    MeanSqrtLength,
    /// The mean with the weights 1, 2, 3, …
    WeightedMean,
    /// The maximum of each column.
    Max,
}

/// What is pooled, and into what.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// The type of the hidden states.
    pub element: Element,
    /// How.
    pub pooling: Pooling,
    /// Columns of a hidden state.
    pub width: usize,
    /// The first columns, which the vectors have.
    pub dimensions: usize,
    /// Whether vectors are scaled to length 1; a zero vector stays zero.
    pub normalise: bool,
    /// i32 `[sequences]`: first tokens of each that are left out, but for the last one; may be absent.
    pub skipped: Address,
}

impl Pool {
    /// The most columns that vectors can have.
    pub const MOST_DIMENSIONS: usize = 8192;

    /// `hidden` is `[tokens, width]`; writes `out`, f32 `[sequences, dimensions]`. `None` if there are no sequences.
    ///
    /// # Panics
    /// If there are more dimensions than columns, or than a block can hold.
    pub fn launch(&self, hidden: Address, sequences: Sequences, out: Address) -> Option<Launch> {
        let Self { element, pooling, width, dimensions, normalise, skipped } = *self;
        assert!(dimensions <= width.min(Self::MOST_DIMENSIONS), "a part of the columns");
        if sequences.count == 0 || dimensions == 0 {
            return None;
        }
        let arguments = vec![
            hidden.into(),
            sequences.starts.into(),
            skipped.into(),
            out.into(),
            (width as i32).into(),
            (dimensions as i32).into(),
            (pooling as i32).into(),
            i32::from(normalise).into(),
            LEAST_LENGTH.into(),
        ];
        let blocks = u32::try_from(sequences.count).expect("fewer than 2^32 sequences");
        let launch = Launch::linear(format!("pooling_{}", element.suffix()), blocks, THREADS, arguments);
        Some(Launch { shared_bytes: (dimensions * size_of::<f32>()) as u32, ..launch })
    }
}
