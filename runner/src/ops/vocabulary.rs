//! The product of hidden states with every entry of a vocabulary, of which only the maximum per sequence is kept: tokens
//! × vocabulary is never in memory.

use candle_core::{Result, Tensor};
use kernels::matmul::{Packed, Rows, largest_product};

use super::{sequences::Sequences, storage};

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
    /// For candle's operations: `[hidden, entries]`.
    Portable(Tensor),
}

impl Vocabulary {
    /// Of a `weight` of `[entries, hidden]` and a `bias` of `[entries]`.
    pub fn new(weight: &Tensor, bias: &Tensor) -> Result<Self> {
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

    /// The largest logit of every entry among the tokens of every sequence: `hidden` is `[tokens, hidden]`, the answer
    /// `[sequences, entries]`.
    pub fn largest(&self, hidden: &Tensor, sequences: &Sequences) -> Result<Tensor> {
        let largest = match &self.form {
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
