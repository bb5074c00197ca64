//! The product of hidden states with every entry of a vocabulary, reduced to the maximum per sequence: tokens × vocabulary is
//! never in memory. A device computes a tile of the vocabulary at a time, small enough for the cache of a card, and only the
//! entries with a weight are downloaded.

use candle_core::{DType, Result, Tensor, bail};
use kernels::{
    cuda::{
        pooling::PackedSequences,
        vocabulary::{self, Entries, EntryCounts, Selection, Tile},
    },
    matmul::{Packed, Rows, largest_product},
};

use super::{device, sequences::Sequences, storage};

/// Scores of a tile on a device: half of them are as many bytes as the second cache of an H100 has.
const TILE_VALUES: usize = 12 << 20;
/// Entries of the smallest tile; products of fewer entries are slow.
const MIN_TILE: usize = 512;
/// The entries of a tile are a multiple of this, so that its weights are aligned for fast products.
const TILE_ALIGNMENT: usize = 128;
/// Entries of the largest tile.
const MAX_TILE: usize = 16384;

/// The entries of a vocabulary as a linear layer.
#[derive(Debug)]
pub struct Vocabulary {
    form: Form,
    bias: Tensor,
    entries: usize,
}

#[derive(Debug)]
enum Form {
    /// For the kernels of the CPU.
    Packed(Packed),
    /// For the kernels of a device: `[entries, hidden]`.
    Device(Tensor),
    /// For candle's operations: `[hidden, entries]`.
    Portable(Tensor),
}

impl Vocabulary {
    /// Of a `weight` of `[entries, hidden]` and a `bias` of `[entries]`.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        if device::has_kernels(weight.device()) {
            let form = Form::Device(weight.contiguous()?);
            return Ok(Self { form, bias: bias.to_dtype(DType::F32)?, entries: weight.dim(0)? });
        }
        if !storage::on_cpu(weight) {
            return Self::portable(weight, bias);
        }
        let (entries, hidden) = weight.dims2()?;
        let weight = weight.contiguous()?;
        let (storage, layout) = weight.storage_and_layout();
        let packed = Packed::transposed(storage::slice(&storage, layout)?, entries, hidden, hidden);
        Ok(Self { form: Form::Packed(packed), bias: bias.clone(), entries })
    }

    /// [`Vocabulary::new`] in the form of candle's operations.
    fn portable(weight: &Tensor, bias: &Tensor) -> Result<Self> {
        Ok(Self { form: Form::Portable(weight.t()?.contiguous()?), bias: bias.clone(), entries: weight.dim(0)? })
    }

    /// The largest logit of every entry among the tokens of every sequence: `hidden` is `[tokens, hidden]`, the result
    /// `[sequences, entries]`.
    pub fn largest(&self, hidden: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let largest = match &self.form {
            Form::Device(weight) => return self.on_device(weight, hidden, sequences, false),
            Form::Packed(packed) => {
                let mut out = vec![f32::NEG_INFINITY; sequences.len() * self.entries];
                let (storage, layout) = hidden.storage_and_layout();
                let rows = Rows {
                    values: storage::slice(&storage, layout)?,
                    count: sequences.tokens(),
                    stride: hidden.dim(1)?,
                };
                largest_product(rows, packed, &sequences.ranges().collect::<Vec<_>>(), &mut out);
                Tensor::from_vec(out, (sequences.len(), self.entries), hidden.device())?
            }
            Form::Portable(weight) => {
                let largest = sequences
                    .ranges()
                    .map(|range| hidden.narrow(0, range.start, range.len())?.matmul(weight)?.max_keepdim(0));
                Tensor::cat(&largest.collect::<Result<Vec<_>>>()?, 0)?
            }
        };
        largest.broadcast_add(&self.bias)
    }

    /// The weights log(1 + relu(largest logit)) above the `threshold` of every sequence, by ascending entry. Weights below the
    /// `top_k` largest may be missing. A row with a NaN keeps at least one NaN.
    pub fn weights(
        &self,
        hidden: &Tensor,
        sequences: &Sequences,
        threshold: f32,
        top_k: Option<usize>,
    ) -> Result<Vec<Vec<(u32, f32)>>> {
        if let Form::Device(weight) = &self.form {
            return self.compact(&self.on_device(weight, hidden, sequences, true)?, threshold, top_k);
        }
        // The logarithm is monotone, so the maximum is taken before it.
        let weights = (self.largest(hidden, sequences)?.relu()? + 1.0)?.log()?.flatten_all()?.to_vec1::<f32>()?;
        let is_kept = |(_, weight): &(u32, f32)| weight.is_nan() || *weight > threshold;
        Ok(weights
            .chunks_exact(self.entries)
            .map(|row| (0..).zip(row.iter().copied()).filter(is_kept).collect())
            .collect())
    }

    /// The largest logits, or their weights, f32 `[sequences, entries]`, by the kernels of a device.
    fn on_device(&self, weight: &Tensor, hidden: &Tensor, sequences: &Sequences, weights: bool) -> Result<Tensor> {
        let Some(mut machine) = device::machine(hidden) else { bail!("the hidden states are on another device") };
        let most =
            (TILE_VALUES / sequences.tokens().max(1)).clamp(MIN_TILE, MAX_TILE) / TILE_ALIGNMENT * TILE_ALIGNMENT;
        let bias = machine.input(&self.bias)?;
        let starts = sequences.on(hidden.device(), &mut *machine)?.starts;
        let ranges = PackedSequences { starts, count: sequences.len() };
        let out = machine.output(&[sequences.len(), self.entries], DType::F32)?;
        for first in (0..self.entries).step_by(most) {
            let width = most.min(self.entries - first);
            let scores = machine.product(hidden, &weight.narrow(0, first, width)?, None, None)?;
            let element = device::element(scores.dtype())?;
            let tile = Tile { element, first, width, stride: width, entries: self.entries, logarithm: weights };
            let scores = machine.input(&scores)?;
            machine.launch(tile.launch(scores, ranges, bias, out))?;
        }
        machine.take(out)
    }

    /// The weights above the threshold; only these are copied to the host.
    fn compact(&self, weights: &Tensor, threshold: f32, top_k: Option<usize>) -> Result<Vec<Vec<(u32, f32)>>> {
        let Some(mut machine) = device::machine(weights) else { bail!("the weights are on another device") };
        let rows = weights.dim(0)?;
        let weights = machine.input(weights)?;
        let selection = Selection { weights, rows, entries: self.entries, threshold, most: top_k };
        let counted = EntryCounts {
            counts: machine.output(&[rows], DType::U32)?,
            cuts: machine.output(&[rows, 2], DType::U32)?,
            finite: machine.output(&[rows], DType::U32)?,
        };
        machine.launch(vocabulary::count(selection, counted))?;
        let offsets = machine.output(&[rows + 1], DType::I64)?;
        machine.launch(vocabulary::offsets(rows, counted.counts, offsets))?;
        let counts: Vec<u32> = device::download(&machine.take(counted.counts)?)?;
        let finite: Vec<u32> = device::download(&machine.take(counted.finite)?)?;
        let capacity = counts.iter().map(|count| *count as usize).sum();
        let entries = Entries {
            indices: machine.output(&[capacity], DType::U32)?,
            values: machine.output(&[capacity], DType::F32)?,
            capacity,
        };
        machine.launch(vocabulary::write(selection, counted.cuts, offsets, entries))?;
        let indices: Vec<u32> = device::download(&machine.take(entries.indices)?)?;
        let values: Vec<f32> = device::download(&machine.take(entries.values)?)?;
        let mut entries = indices.into_iter().zip(values);
        let rows = counts.iter().zip(finite).map(|(count, finite)| {
            let row: Vec<(u32, f32)> = entries.by_ref().take(*count as usize).collect();
            if finite == 0 { vec![(0, f32::NAN)] } else { row }
        });
        Ok(rows.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::test::{assert_close, random};

    #[test]
    fn the_fused_form_is_the_portable_one() -> Result<()> {
        let sequences = Sequences::of_lengths([1, 6, 7, 40]);
        for (hidden, entries) in [(8, 5), (32, 100), (400, 33)] {
            let (weight, bias) = (random(1, &[entries, hidden])?, random(2, &[entries])?);
            let x = random(3, &[sequences.tokens(), hidden])?;
            let expected = Vocabulary::portable(&weight, &bias)?.largest(&x, &sequences)?;
            assert_close(&Vocabulary::new(&weight, &bias)?.largest(&x, &sequences)?, &expected, 2e-5)?;
        }
        Ok(())
    }
}
