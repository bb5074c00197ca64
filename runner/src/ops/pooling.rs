//! Pools token vectors to one vector per sequence, as `sentence-transformers` defines it
//! (`sentence_transformers/models/Pooling.py` and `Normalize.py`).

use std::fmt;

use candle_core::{D, DType, Result, Tensor};

use kernels::{
    cuda::{
        self, Address,
        pooling::{PackedSequences, Pool},
    },
    rows::{add_scaled, length, maximum, scale},
};

use super::{
    device,
    sequences::{Sequences, TokenSelection},
    storage,
};

/// How the token vectors of a sequence are pooled to one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token.
    Cls,
    /// The mean of the token vectors.
    Mean,
    /// The vector of the last token.
    LastToken,
    /// The maximum of the token vectors, per dimension.
    Max,
    /// The mean with the weights 1, 2, 3, … (Muennighoff, 2022).
    WeightedMean,
    /// The sum of the token vectors divided by the root of their number.
    MeanSqrtLength,
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Pooling {
    /// The tokens whose vectors the pooling reads.
    pub fn reads(self) -> TokenSelection {
        match self {
            Self::Cls => TokenSelection::First,
            Self::LastToken => TokenSelection::Last,
            Self::Mean | Self::Max | Self::WeightedMean | Self::MeanSqrtLength => TokenSelection::All,
        }
    }

    /// Pools `hidden` (`[tokens, width]`, all tokens or just those that the pooling reads) to `[sequences, width]`.
    pub fn forward(self, hidden: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        if self.reads() != TokenSelection::All {
            let reduced = hidden.dim(0)? == sequences.len();
            return if reduced { Ok(hidden.clone()) } else { self.reads().rows(hidden, sequences) };
        }
        self.forward_without(hidden, sequences, None)
    }

    /// [`Pooling::forward`] over all tokens without the first `skipped` of each sequence, as if they were masked: the others
    /// keep their positions. The last token of a sequence is never skipped.
    pub fn forward_without(self, hidden: &Tensor, sequences: &Sequences, skipped: Option<&[u32]>) -> Result<Tensor> {
        if let Some(pooled) = self.forward_on_device(hidden, sequences, skipped, hidden.dim(1)?, false)? {
            return Ok(pooled);
        }
        if !storage::on_cpu(hidden) {
            return self.portable(hidden, sequences, skipped);
        }
        let width = hidden.dim(1)?;
        let (storage, layout) = hidden.storage_and_layout();
        let values = storage::slice(&storage, layout)?;
        let mut out = vec![0.0; sequences.len() * width];
        for (sequence, (pooled, range)) in out.chunks_exact_mut(width).zip(sequences.ranges()).enumerate() {
            let skipped = skipped_of(skipped, sequence, range.len());
            let mut tokens = values[(range.start + skipped) * width..range.end * width].chunks_exact(width);
            let count = tokens.len() as f32;
            match self {
                Self::Max => {
                    pooled.fill(f32::NEG_INFINITY);
                    tokens.for_each(|token| maximum(pooled, token));
                }
                Self::WeightedMean => {
                    let weights = skipped + 1..;
                    tokens.zip(weights).for_each(|(token, weight)| add_scaled(pooled, token, weight as f32));
                    scale(pooled, 2.0 / (count * (2.0 * skipped as f32 + count + 1.0)));
                }
                Self::Mean | Self::MeanSqrtLength => {
                    tokens.for_each(|token| add_scaled(pooled, token, 1.0));
                    scale(pooled, if self == Self::MeanSqrtLength { 1.0 / count.sqrt() } else { 1.0 / count });
                }
                Self::Cls => pooled.copy_from_slice(tokens.next().unwrap_or_default()),
                Self::LastToken => pooled.copy_from_slice(tokens.next_back().unwrap_or_default()),
            }
        }
        Tensor::from_vec(out, (sequences.len(), width), hidden.device())
    }

    /// [`Pooling::forward`] by the kernel of a device, f32 `[sequences, dimensions]`: the first `dimensions` columns, scaled to
    /// length 1 if `normalised`. The first `skipped` tokens of each sequence are left out, but never its last. `None` if the
    /// device has no kernels.
    pub fn forward_on_device(
        self,
        hidden: &Tensor,
        sequences: &Sequences,
        skipped: Option<&[u32]>,
        dimensions: usize,
        normalised: bool,
    ) -> Result<Option<Tensor>> {
        let Some(mut machine) = device::machine(hidden) else { return Ok(None) };
        // One row per sequence means that only the token that the pooling reads was computed.
        let alone = self.reads() != TokenSelection::All && hidden.dim(0)? == sequences.len();
        let skipped = skipped.map(|skipped| device::upload(skipped, hidden.device())).transpose()?;
        let ranges = PackedSequences {
            starts: if alone { Address::ABSENT } else { sequences.on(hidden.device(), &mut *machine)?.starts },
            count: sequences.len(),
        };
        let pool = Pool {
            element: device::element(hidden.dtype())?,
            pooling: match self {
                Self::Cls => cuda::pooling::Pooling::Cls,
                Self::Mean => cuda::pooling::Pooling::Mean,
                Self::LastToken => cuda::pooling::Pooling::LastToken,
                Self::Max => cuda::pooling::Pooling::Max,
                Self::WeightedMean => cuda::pooling::Pooling::WeightedMean,
                Self::MeanSqrtLength => cuda::pooling::Pooling::MeanSqrtLength,
            },
            width: hidden.dim(1)?,
            dimensions,
            normalise: normalised,
            leading: machine.optional(skipped.as_ref())?,
        };
        let input = machine.input(hidden)?;
        let out = machine.output(&[sequences.len(), dimensions], DType::F32)?;
        machine.launch(pool.launch(input, ranges, out))?;
        machine.take(out).map(Some)
    }

    /// [`Pooling::forward_without`] by candle's operations.
    fn portable(self, hidden: &Tensor, sequences: &Sequences, skipped: Option<&[u32]>) -> Result<Tensor> {
        let pooled = sequences.ranges().enumerate().map(|(sequence, range)| -> Result<Tensor> {
            let skipped = skipped_of(skipped, sequence, range.len());
            let count = range.len() - skipped;
            let tokens = hidden.narrow(0, range.start + skipped, count)?.to_dtype(DType::F32)?;
            match self {
                Self::Cls => tokens.narrow(0, 0, 1),
                Self::LastToken => tokens.narrow(0, count - 1, 1),
                Self::Mean => tokens.mean_keepdim(0),
                Self::MeanSqrtLength => tokens.sum_keepdim(0)? / (count as f64).sqrt(),
                Self::Max => tokens.max_keepdim(0),
                Self::WeightedMean => {
                    let first = skipped as f32 + 1.0;
                    let weights = Tensor::arange(first, first + count as f32, hidden.device())?.reshape((1, count))?;
                    weights.matmul(&tokens)? * (2.0 / (count * (2 * skipped + count + 1)) as f64)
                }
            }
        });
        Tensor::cat(&pooled.collect::<Result<Vec<_>>>()?, 0)
    }
}

/// The leading tokens of a sequence of `length` tokens that are skipped; never its last.
fn skipped_of(skipped: Option<&[u32]>, sequence: usize, length: usize) -> usize {
    skipped.map_or(0, |skipped| (skipped[sequence] as usize).min(length - 1))
}

/// Scales each of the `vectors` (`[rows, width]`) to length 1. A zero vector stays zero, as
/// in `torch.nn.functional.normalize`.
pub fn l2_normalize(vectors: &Tensor) -> Result<Tensor> {
    const LEAST: f32 = 1e-12;
    if !storage::on_cpu(vectors) {
        let length = vectors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(f64::from(LEAST))?;
        return vectors.broadcast_div(&length);
    }
    let mut values = storage::to_vec(vectors)?;
    for row in values.chunks_exact_mut(vectors.dim(D::Minus1)?) {
        scale(row, 1.0 / length(row).max(LEAST));
    }
    Tensor::from_vec(values, vectors.shape(), vectors.device())
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::test::{assert_close, random};

    const ALL: [Pooling; 6] =
        [Pooling::Cls, Pooling::Mean, Pooling::LastToken, Pooling::Max, Pooling::WeightedMean, Pooling::MeanSqrtLength];

    #[test]
    fn every_pooling_computes_its_definition() -> Result<()> {
        let sequences = Sequences::of_lengths([1, 3]);
        let hidden = Tensor::new(&[[9f32, 1.0], [1.0, 2.0], [3.0, 6.0], [5.0, -2.0]], &Device::Cpu)?;
        let root = 3f32.sqrt();
        for (pooling, second) in [
            (Pooling::Cls, [1.0, 2.0]),
            (Pooling::Mean, [3.0, 2.0]),
            (Pooling::LastToken, [5.0, -2.0]),
            (Pooling::Max, [5.0, 6.0]),
            (Pooling::WeightedMean, [22.0 / 6.0, 8.0 / 6.0]),
            (Pooling::MeanSqrtLength, [9.0 / root, 6.0 / root]),
        ] {
            let expected = Tensor::new(&[[9f32, 1.0], second], &Device::Cpu)?;
            assert_close(&pooling.forward(&hidden, &sequences)?, &expected, 1e-6)?;
        }
        Ok(())
    }

    #[test]
    fn the_fused_form_equals_the_portable_one_also_on_selected_tokens() -> Result<()> {
        let sequences = Sequences::of_lengths([4, 1, 17]);
        let hidden = random(1, &[sequences.tokens(), 19])?;
        for pooling in ALL {
            let pooled = pooling.forward(&hidden, &sequences)?;
            assert_close(&pooled, &pooling.portable(&hidden, &sequences, None)?, 1e-6)?;
            let selected = pooling.reads().rows(&hidden, &sequences)?;
            assert_close(&pooling.forward(&selected, &sequences)?, &pooled, 0.0)?;
        }
        Ok(())
    }

    #[test]
    fn skipped_tokens_are_masked_and_the_others_keep_their_positions() -> Result<()> {
        let sequences = Sequences::of_lengths([2, 4]);
        let hidden =
            Tensor::new(&[[9f32, 1.0], [4.0, 3.0], [7.0, 7.0], [1.0, 2.0], [3.0, 6.0], [5.0, -2.0]], &Device::Cpu)?;
        // More than there are: the last token is pooled all the same.
        let skipped = Some(&[5, 1][..]);
        let root = 3f32.sqrt();
        for (pooling, second) in [
            (Pooling::Cls, [1.0, 2.0]),
            (Pooling::Mean, [3.0, 2.0]),
            (Pooling::LastToken, [5.0, -2.0]),
            (Pooling::Max, [5.0, 6.0]),
            // The weights of the tokens are 2, 3 and 4.
            (Pooling::WeightedMean, [31.0 / 9.0, 14.0 / 9.0]),
            (Pooling::MeanSqrtLength, [9.0 / root, 6.0 / root]),
        ] {
            let expected = Tensor::new(&[[4f32, 3.0], second], &Device::Cpu)?;
            let on_device = device::emulate(|| pooling.forward_without(&hidden, &sequences, skipped))?;
            assert_close(&pooling.forward_without(&hidden, &sequences, skipped)?, &expected, 1e-6)?;
            assert_close(&pooling.portable(&hidden, &sequences, skipped)?, &expected, 1e-6)?;
            assert_close(&on_device, &expected, 1e-6)?;
        }
        Ok(())
    }

    #[test]
    fn a_normalised_vector_has_length_one_and_zero_stays_zero() -> Result<()> {
        let vectors = Tensor::new(&[[3f32, 4.0], [0.0, 0.0]], &Device::Cpu)?;
        assert_close(&l2_normalize(&vectors)?, &Tensor::new(&[[0.6f32, 0.8], [0.0, 0.0]], &Device::Cpu)?, 1e-7)
    }
}
