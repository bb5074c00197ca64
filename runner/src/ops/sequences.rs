//! The bounds of the sequences in a packed batch, and selections of their tokens.

use std::{ops::Range, sync::OnceLock};

use candle_core::{Device, Result, Tensor};
use kernels::cuda;

use super::{
    device::{self, Machine},
    storage,
};

/// The boundaries of the sequences in a packed batch; none is empty.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// `cu_seqlens`: the sums of the lengths before each sequence, and after the last.
    starts: Vec<usize>,
    /// The same on the device of the batch; uploaded at its first use.
    uploaded_starts: OnceLock<Tensor>,
    /// The position of every token, likewise.
    uploaded_positions: OnceLock<Tensor>,
}

impl PartialEq for Sequences {
    fn eq(&self, other: &Self) -> bool {
        self.starts == other.starts
    }
}

impl Eq for Sequences {}

impl Sequences {
    /// Sequences of the given lengths, one after another.
    ///
    /// # Panics
    /// If a length is 0.
    pub fn of_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        for length in lengths {
            assert!(length > 0, "a sequence has at least one token");
            starts.push(starts[starts.len() - 1] + length);
        }
        Self { starts, uploaded_starts: OnceLock::new(), uploaded_positions: OnceLock::new() }
    }

    /// The number of sequences.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of tokens.
    pub fn tokens(&self) -> usize {
        self.starts[self.len()]
    }

    /// The tokens of each sequence.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        self.starts.array_windows().map(|[start, end]| *start..*end)
    }

    /// The length of the longest sequence.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// The sequences as the kernels of a device define them.
    pub(super) fn on(&self, on: &Device, machine: &mut dyn Machine) -> Result<cuda::attention::Sequences> {
        let starts = device::get_or_init(&self.uploaded_starts, || {
            let starts: Vec<u32> = self.starts.iter().map(|start| *start as u32).collect();
            device::upload(&starts, on)
        })?;
        Ok(cuda::attention::Sequences { starts: machine.input(starts)?, count: self.len(), longest: self.longest() })
    }

    /// The position of every token on the device, `[tokens]`.
    pub(super) fn positions_on(&self, on: &Device) -> Result<&Tensor> {
        device::get_or_init(&self.uploaded_positions, || {
            let positions: Vec<u32> = self.positions().map(|position| position as u32).collect();
            device::upload(&positions, on)
        })
    }

    /// The position of every token in its sequence.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.ranges().flat_map(|range| 0..range.len())
    }
}

/// The tokens whose vectors are needed after a layer. If a pooling reads one token of each sequence, the last layer computes
/// only that token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSelection {
    /// All tokens.
    All,
    /// The first token of each sequence.
    First,
    /// The last token of each sequence.
    Last,
}

impl TokenSelection {
    pub(super) fn on_device(self) -> cuda::attention::TokenSelection {
        match self {
            Self::All => cuda::attention::TokenSelection::All,
            Self::First => cuda::attention::TokenSelection::First,
            Self::Last => cuda::attention::TokenSelection::Last,
        }
    }

    /// The selected positions of a sequence of `length` tokens.
    pub fn of(self, length: usize) -> Range<usize> {
        match self {
            Self::All => 0..length,
            Self::First => 0..1,
            Self::Last => length - 1..length,
        }
    }

    /// The bounds of the sequences of selected tokens.
    pub fn sequences(self, sequences: &Sequences) -> Sequences {
        Sequences::of_lengths(sequences.ranges().map(|range| self.of(range.len()).len()))
    }

    /// The selected rows of `x`, which has a row per token.
    pub fn rows(self, x: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        if self == Self::All {
            return Ok(x.clone());
        }
        if let Some(mut machine) = device::machine(x) {
            let kept =
                if self == Self::First { cuda::pooling::SelectedRow::First } else { cuda::pooling::SelectedRow::Last };
            let (element, width) = (device::element(x.dtype())?, x.dim(1)?);
            let starts = sequences.on(x.device(), &mut *machine)?.starts;
            let ranges = cuda::pooling::PackedSequences { starts, count: sequences.len() };
            let (input, out) = (machine.input(x)?, machine.output(&[sequences.len(), width], x.dtype())?);
            machine.launch(cuda::pooling::select_rows(element, kept, width, input, ranges, out))?;
            return machine.take(out);
        }
        let rows = sequences.ranges().map(|range| range.start + self.of(range.len()).start);
        if storage::on_cpu(x) {
            let width = x.dim(1)?;
            let (storage, layout) = x.storage_and_layout();
            let values = storage::slice(&storage, layout)?;
            let kept: Vec<f32> = rows.flat_map(|row| &values[row * width..][..width]).copied().collect();
            return Tensor::from_vec(kept, (sequences.len(), width), x.device());
        }
        let rows: Vec<u32> = rows.map(|row| row as u32).collect();
        x.index_select(&Tensor::new(rows, x.device())?, 0)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn sequences_follow_one_another() {
        let sequences = Sequences::of_lengths([2, 1, 3]);
        assert_eq!((sequences.len(), sequences.tokens()), (3, 6));
        assert_eq!(sequences.ranges().collect::<Vec<_>>(), [0..2, 2..3, 3..6]);
        assert_eq!(sequences.positions().collect::<Vec<_>>(), [0, 1, 0, 0, 1, 2]);
    }

    #[test]
    fn selected_rows_are_the_first_or_the_last_of_each_sequence() -> Result<()> {
        let sequences = Sequences::of_lengths([2, 1, 3]);
        let x = Tensor::new(&[[0f32], [1.0], [2.0], [3.0], [4.0], [5.0]], &Device::Cpu)?;
        for (kept, rows) in [(TokenSelection::First, [0f32, 2.0, 3.0]), (TokenSelection::Last, [1.0, 2.0, 5.0])] {
            assert_eq!(storage::to_vec(&kept.rows(&x, &sequences)?)?, rows);
            assert_eq!(kept.sequences(&sequences), Sequences::of_lengths([1, 1, 1]));
        }
        assert_eq!(TokenSelection::All.rows(&x, &sequences)?.dims(), [6, 1]);
        Ok(())
    }
}
