//! The weights of a vocabulary's entries (SPLADE): the largest score of every sequence's tokens, a tile of entries at a
//! time, and the entries above a threshold.

use super::{Address, Argument, Element, Launch, attention::Sequences};

/// Threads of a block.
const THREADS: usize = 256;

/// A tile of the vocabulary.
#[derive(Clone, Copy, Debug)]
pub struct Tile {
    /// The type of the scores.
    pub element: Element,
    /// The products of all tokens with the entries of the tile, `[tokens, entries of the tile]`.
    pub scores: Address,
    /// The first entry.
    pub first: usize,
    /// Entries of the tile.
    pub count: usize,
}

/// The largest scores of all entries.
#[derive(Clone, Copy, Debug)]
pub struct Largest {
    /// f32 `[entries]`, added.
    pub bias: Address,
    /// Entries of the vocabulary.
    pub entries: usize,
    /// Whether the weights log(1 + relu(score)) are written in place of the scores.
    pub weights: bool,
}

impl Largest {
    /// Writes the columns of the tile in `out`, f32 `[sequences, entries]`. `None` if there is nothing.
    pub fn launch(&self, tile: Tile, sequences: Sequences, out: Address) -> Option<Launch> {
        if sequences.count == 0 || tile.count == 0 {
            return None;
        }
        let arguments = vec![
            tile.scores.into(),
            sequences.starts.into(),
            self.bias.into(),
            out.into(),
            (tile.count as i32).into(),
            (self.entries as i32).into(),
            (tile.first as i32).into(),
            i32::from(self.weights).into(),
        ];
        Some(Launch {
            grid: [sequences.count as u32, tile.count.div_ceil(THREADS) as u32, 1],
            ..Launch::linear(format!("vocabulary_{}", tile.element.suffix()), 1, THREADS as u32, arguments)
        })
    }
}

/// Rows of weights of which few are above a threshold. What is no number is kept, so that it shows.
#[derive(Clone, Copy, Debug)]
pub struct Sparse {
    /// f32 `[rows, entries]`.
    pub weights: Address,
    /// The rows.
    pub rows: usize,
    /// Entries of a row.
    pub entries: usize,
    /// What an entry has to be above.
    pub threshold: f32,
}

impl Sparse {
    /// Writes to `counts`, u32 `[rows]`, how many entries of each row are kept. `None` if there are no rows.
    pub fn count(&self, counts: Address) -> Option<Launch> {
        self.launch("vocabulary_count", vec![self.weights.into(), counts.into()])
    }

    /// Writes the kept entries of every row, by ascending index, to `indices` (u32) and `values` (f32), from the row's
    /// offset on: `offsets`, u32 `[rows]`, are the sums of the counts before. `None` if there are no rows.
    pub fn compact(&self, offsets: Address, indices: Address, values: Address) -> Option<Launch> {
        self.launch("vocabulary_compact", vec![self.weights.into(), offsets.into(), indices.into(), values.into()])
    }

    fn launch(&self, kernel: &str, mut arguments: Vec<Argument>) -> Option<Launch> {
        if self.rows == 0 || self.entries == 0 {
            return None;
        }
        arguments.extend([Argument::from(self.entries as i32), self.threshold.into()]);
        Some(Launch::linear(kernel.to_owned(), self.rows as u32, THREADS as u32, arguments))
    }
}
