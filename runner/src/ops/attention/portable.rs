//! Self-attention by candle's own operations.

use std::sync::Arc;

use candle_core::{D, Device, Result, Tensor, bail};

use super::{DistanceBias, Heads, SelfAttention};
use crate::ops::{
    Norm,
    sequences::{Sequences, TokenSelection},
};

impl SelfAttention {
    /// The weighted values of every selected token, `[selected, query⋅width]`.
    pub(super) fn portable_contexts(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        selected: TokenSelection,
    ) -> Result<Tensor> {
        let Heads { query, key_value, width } = self.heads;
        let qkv = self.qkv.forward(x)?;
        let mut contexts = Vec::with_capacity(sequences.len());
        for range in sequences.ranges() {
            let length = range.len();
            let sequence = qkv.narrow(0, range.start, length)?;
            // [tokens, heads⋅width] → [heads, tokens, width]
            let heads = |from: usize, count: usize, norm: Option<&Norm>| {
                let mut part = sequence.narrow(1, from * width, count * width)?.contiguous()?;
                if let Some(norm) = norm {
                    let together = part.reshape((length, count * width / norm.width()?, norm.width()?))?;
                    part = norm.portable(&together)?;
                }
                part.reshape((length, count, width))?.transpose(0, 1)?.contiguous()
            };
            let norms = self.head_norms.as_ref();
            let mut queries = heads(0, query, norms.map(|(norm, _)| norm))?;
            let mut keys = heads(query, key_value, norms.map(|(_, norm)| norm))?;
            if let Some(rotary) = &self.rotary {
                (queries, keys) = (rotary.portable(&queries)?, rotary.portable(&keys)?);
            }
            let shared = |x: Tensor| -> Result<Tensor> {
                let group = query / key_value;
                x.unsqueeze(1)?.expand((key_value, group, length, width))?.reshape((query, length, width))
            };
            let (keys, values) = (shared(keys)?, shared(heads(query + key_value, key_value, None)?)?);
            let scores = (queries.matmul(&keys.transpose(1, 2)?.contiguous()?)? * f64::from(self.scale))?;
            let mask = self.mask(length, x.device())?.to_dtype(scores.dtype())?;
            let weights = candle_nn::ops::softmax(&scores.broadcast_add(&mask)?, D::Minus1)?;
            let context = weights.matmul(&values.contiguous()?)?.transpose(0, 1)?.reshape((length, query * width))?;
            let rows = selected.of(length);
            contexts.push(context.narrow(0, rows.start, rows.len())?);
        }
        if contexts.is_empty() {
            bail!("a batch has at least one sequence");
        }
        Tensor::cat(&contexts, 0)
    }

    /// The summand of a sequence's scores, `[heads or 1, length, length]`: the bias, or -∞ outside the span.
    fn mask(&self, length: usize, device: &Device) -> Result<Tensor> {
        let heads = self.bias.as_ref().map_or(1, |bias| bias.by_head.len());
        let mut mask = Vec::with_capacity(heads * length * length);
        for head in 0..heads {
            for position in 0..length {
                let keys = self.span.keys(position, length);
                mask.extend((0..length).map(|key| {
                    let bias = |bias: &Arc<DistanceBias>| bias.by_head[head][bias.positions - 1 + key - position];
                    if keys.contains(&key) { self.bias.as_ref().map_or(0.0, bias) } else { f32::NEG_INFINITY }
                }));
            }
        }
        Tensor::from_vec(mask, (heads, length, length), &Device::Cpu)?.to_device(device)
    }
}
