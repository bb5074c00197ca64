//! Self-attention by the kernels of the CPU.

use std::cell::RefCell;

use candle_core::{Result, Tensor};
use kernels::attention::{Head, KeysAndValues, Scratch};

use super::{Heads, SelfAttention};
use crate::ops::{
    Epilogue,
    sequences::{Sequences, TokenSelection},
    storage,
};

thread_local! {
    /// The buffers of the attention that this thread computes.
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Buffers that every layer and batch reuses, so that they are neither allocated nor cleared each time.
#[derive(Default)]
struct Workspace {
    /// Keys, values and scores of a head.
    head: Scratch,
    /// Queries, keys and values of all tokens.
    qkv: Vec<f32>,
    /// The weighted values of every selected token.
    contexts: Vec<f32>,
}

/// The first `length` values of the `buffer`, which grows if necessary. The values are those of its last use.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

impl SelfAttention {
    /// [`SelfAttention::forward`] by the kernels of the CPU.
    pub(super) fn forward_on_cpu(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        selected: TokenSelection,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        let rows = selected.sequences(sequences).tokens();
        WORKSPACE.with_borrow_mut(|workspace| {
            self.contexts(x, sequences, selected, workspace)?;
            let contexts = &workspace.contexts[..rows * self.out.inputs()];
            let out = self.out.finished(contexts, rows, None, epilogue)?;
            Tensor::from_vec(out, (rows, self.out.outputs()), x.device())
        })
    }

    /// The weighted values of every selected token, `[selected, query⋅width]`, by the kernels of the CPU.
    fn contexts(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        selected: TokenSelection,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let Heads { query, key_value, width } = self.heads;
        let (tokens, stride) = (sequences.tokens(), self.heads.packed_width());
        let qkv = room(&mut workspace.qkv, tokens * stride);
        {
            let (storage, layout) = x.storage_and_layout();
            let values = storage::slice(&storage, layout)?;
            if selected == TokenSelection::All {
                self.qkv.product(values, tokens, None, None, qkv)?;
            } else {
                // The tokens that are not selected only need keys and values.
                self.qkv.product_of_columns(values, tokens, query * width..stride, qkv)?;
                for range in sequences.ranges() {
                    let token = range.start + selected.of(range.len()).start;
                    let (from, to) = (&values[token * self.qkv.inputs()..], &mut qkv[token * stride..]);
                    self.qkv.product_of_columns(from, 1, 0..query * width, to)?;
                }
            }
        }
        self.place(qkv, sequences)?;

        let out_sequences = selected.sequences(sequences);
        let out_stride = query * width;
        let contexts = room(&mut workspace.contexts, out_sequences.tokens() * out_stride);
        for (range, out_range) in sequences.ranges().zip(out_sequences.ranges()) {
            let length = range.len();
            let queries = selected.of(length);
            let sequence = &qkv[range.start * stride..range.end * stride];
            let out = &mut contexts[out_range.start * out_stride..out_range.end * out_stride];
            for shared in 0..key_value {
                workspace.head.pack(KeysAndValues {
                    keys: &sequence[(query + shared) * width..],
                    values: &sequence[(query + key_value + shared) * width..],
                    length,
                    width,
                    stride,
                    scale: self.scale,
                });
                let group = query / key_value;
                for head in shared * group..(shared + 1) * group {
                    let queries_of_head = Head {
                        queries: &sequence[queries.start * stride + head * width..],
                        stride,
                        bias: self.bias.as_ref().map(|bias| bias.of_head(head)),
                    };
                    let keys = |position| self.span.keys(position, length);
                    workspace.head.attend(queries_of_head, queries.clone(), keys, &mut out[head * width..], out_stride);
                }
            }
        }
        Ok(())
    }

    /// Normalises and rotates the heads of queries and keys in place.
    fn place(&self, qkv: &mut [f32], sequences: &Sequences) -> Result<()> {
        if self.head_norms.is_none() && self.rotary.is_none() {
            return Ok(());
        }
        let Heads { query, key_value, width } = self.heads;
        for (token, position) in qkv.chunks_exact_mut(self.heads.packed_width()).zip(sequences.positions()) {
            let (queries, rest) = token.split_at_mut(query * width);
            let keys = &mut rest[..key_value * width];
            if let Some((query_norm, key_norm)) = &self.head_norms {
                query_norm.normalise(queries)?;
                key_norm.normalise(keys)?;
            }
            if let Some(rotary) = &self.rotary {
                for head in queries.chunks_exact_mut(width).chain(keys.chunks_exact_mut(width)) {
                    rotary.rotate(head, position);
                }
            }
        }
        Ok(())
    }
}
