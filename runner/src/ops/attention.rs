//! Self-attention over packed sequences: projection, positions, softmax attention, projection back.

use std::{
    cell::RefCell,
    ops::Range,
    sync::{Arc, OnceLock},
};

use candle_core::{D, Device, Result, Tensor, bail};

use kernels::{
    attention::{Bias, Head, KeysAndValues, Scratch},
    cuda,
};

use super::{
    Epilogue, Linear, Norm, Rotary,
    device::{self, Machine},
    sequences::{Sequences, TokenSelection},
    storage,
};

thread_local! {
    /// The memory of the attention that this thread is at.
    static WORKSPACE: RefCell<Workspace> = RefCell::default();
}

/// Memory that is used again by every layer and batch, so that it is neither asked for nor cleared each time.
#[derive(Default)]
struct Workspace {
    /// Keys, values and scores of a head.
    head: Scratch,
    /// Queries, keys and values of all tokens.
    qkv: Vec<f32>,
    /// The weighted values of every kept token.
    contexts: Vec<f32>,
}

/// The first `length` values of the `buffer`, which grows to have them; they are what was left there.
fn room(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}

/// The heads of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of queries.
    pub query: usize,
    /// Heads of keys and values, each shared by `query / key_value` heads of queries (Ainslie et al., 2023).
    pub key_value: usize,
    /// The width of a head.
    pub width: usize,
}

impl Heads {
    /// As many heads of keys and values as of queries.
    pub fn equal(count: usize, width: usize) -> Self {
        Self { query: count, key_value: count, width }
    }

    /// The width of the packed queries, keys and values of a token.
    fn packed_width(self) -> usize {
        (self.query + 2 * self.key_value) * self.width
    }
}

/// The keys that a query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionSpan {
    /// All of its sequence.
    Full,
    /// Itself and those before it.
    Causal,
    /// Those at most this far away, on both sides.
    Window(usize),
    /// Itself and those before it, fewer than this far away.
    CausalWindow(usize),
}

impl AttentionSpan {
    fn on_device(self) -> cuda::attention::AttentionSpan {
        match self {
            Self::Full => cuda::attention::AttentionSpan::FULL,
            Self::Causal => cuda::attention::AttentionSpan::CAUSAL,
            Self::Window(reach) => cuda::attention::AttentionSpan::window(reach),
            Self::CausalWindow(width) => cuda::attention::AttentionSpan::causal_window(width),
        }
    }

    /// The keys that the query at `position` sees in a sequence of `length` tokens.
    fn keys(self, position: usize, length: usize) -> Range<usize> {
        match self {
            Self::Full => 0..length,
            Self::Causal => 0..position + 1,
            Self::Window(reach) => position.saturating_sub(reach)..length.min(position + reach + 1),
            Self::CausalWindow(width) => (position + 1).saturating_sub(width)..position + 1,
        }
    }
}

/// A bias that depends on the head and on the distance of key and query alone: ALiBi, T5's buckets.
#[derive(Debug)]
pub struct DistanceBias {
    /// Per head, a value for every distance from `1 - positions` to `positions - 1`.
    by_head: Vec<Vec<f32>>,
    positions: usize,
    /// `[heads, 2⋅positions - 1]` on the device, once it is needed there.
    uploaded: OnceLock<Tensor>,
}

impl DistanceBias {
    /// The bias of each of the `heads`: `value(head, distance)`, where distance is the key's position minus the
    /// query's, for sequences of up to `positions` tokens.
    pub fn new(heads: usize, positions: usize, value: impl Fn(usize, isize) -> f32) -> Self {
        let last = positions as isize - 1;
        let by_head = (0..heads).map(|head| (-last..=last).map(|d| value(head, d)).collect()).collect();
        Self { by_head, positions, uploaded: OnceLock::new() }
    }

    fn on(&self, device: &Device) -> Result<&Tensor> {
        device::kept(&self.uploaded, || Tensor::new(self.by_head.clone(), &Device::Cpu)?.to_device(device))
    }

    fn of_head(&self, head: usize) -> Bias<'_> {
        Bias { by_distance: &self.by_head[head], centre: self.positions - 1 }
    }
}

/// Self-attention with its projections.
#[derive(Debug)]
pub struct SelfAttention {
    /// The queries of all heads, then the keys, then the values: `[hidden]` → `[(query + 2⋅key_value)⋅width]`.
    pub qkv: Linear,
    /// Back to `[hidden]`.
    pub out: Linear,
    /// The heads.
    pub heads: Heads,
    /// Multiplied with the scores; 1/√width in most models.
    pub scale: f32,
    /// The keys that a query sees.
    pub reach: AttentionSpan,
    /// Normalisations of the queries and of the keys, before the rotation: of each head, or of all heads together.
    pub head_norms: Option<(Norm, Norm)>,
    /// Rotary positions.
    pub rotary: Option<Arc<Rotary>>,
    /// A bias by distance.
    pub bias: Option<Arc<DistanceBias>>,
}

impl SelfAttention {
    /// `x` is `[tokens, hidden]`; the answer has a row for every token that is kept, finished as `after` says.
    pub fn forward(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        kept: TokenSelection,
        after: Epilogue<'_>,
    ) -> Result<Tensor> {
        if let Some(mut machine) = device::machine(x).filter(|_| self.heads.width <= cuda::attention::MAX_WIDTH) {
            return self.out.forward_finished(&self.device_contexts(&mut *machine, x, sequences, kept)?, after);
        }
        if !(storage::on_cpu(x) && self.qkv.is_packed()) {
            return self.out.forward_finished(&self.portable_contexts(x, sequences, kept)?, after);
        }
        let rows = kept.sequences(sequences).tokens();
        WORKSPACE.with_borrow_mut(|workspace| {
            self.contexts(x, sequences, kept, workspace)?;
            let contexts = &workspace.contexts[..rows * self.out.inputs()];
            let out = self.out.finished(contexts, rows, None, after)?;
            Tensor::from_vec(out, (rows, self.out.outputs()), x.device())
        })
    }

    /// The weighted values of every kept token, `[kept, query⋅width]`, by the kernels of the CPU.
    fn contexts(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        kept: TokenSelection,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let Heads { query, key_value, width } = self.heads;
        let (tokens, stride) = (sequences.tokens(), self.heads.packed_width());
        let qkv = room(&mut workspace.qkv, tokens * stride);
        {
            let (storage, layout) = x.storage_and_layout();
            let values = storage::slice(&storage, layout)?;
            if kept == TokenSelection::All {
                self.qkv.product(values, tokens, None, None, qkv)?;
            } else {
                // Of the others only keys and values are needed.
                self.qkv.product_of_columns(values, tokens, query * width..stride, qkv)?;
                for range in sequences.ranges() {
                    let token = range.start + kept.of(range.len()).start;
                    let (from, to) = (&values[token * self.qkv.inputs()..], &mut qkv[token * stride..]);
                    self.qkv.product_of_columns(from, 1, 0..query * width, to)?;
                }
            }
        }
        self.place(qkv, sequences)?;

        let out_sequences = kept.sequences(sequences);
        let out_stride = query * width;
        let contexts = room(&mut workspace.contexts, out_sequences.tokens() * out_stride);
        for (range, out_range) in sequences.ranges().zip(out_sequences.ranges()) {
            let length = range.len();
            let queries = kept.of(length);
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
                    let sees = |position| self.reach.keys(position, length);
                    workspace.head.attend(queries_of_head, queries.clone(), sees, &mut out[head * width..], out_stride);
                }
            }
        }
        Ok(())
    }

    /// [`SelfAttention::contexts`] by the kernels of a device.
    fn device_contexts(
        &self,
        machine: &mut dyn Machine,
        x: &Tensor,
        sequences: &Sequences,
        kept: TokenSelection,
    ) -> Result<Tensor> {
        let Heads { query, key_value, width } = self.heads;
        let qkv = if self.head_norms.is_none() && self.rotary.is_none() {
            self.qkv.forward(x)?
        } else {
            let (qkv, bias) = self.qkv.product_and_bias(machine, x)?;
            self.place_on_device(machine, qkv, bias, sequences)?
        };
        let bias = match &self.bias {
            Some(bias) => {
                Some(cuda::attention::Bias { table: machine.input(bias.on(x.device())?)?, positions: bias.positions })
            }
            None => None,
        };
        let attention = cuda::attention::Attention {
            element: device::element(x.dtype())?,
            query_heads: query,
            key_value_heads: key_value,
            width,
            scale: self.scale,
            span: self.reach.on_device(),
            bias,
            selection: kept.on_device(),
        };
        let out = machine.output(&[kept.sequences(sequences).tokens(), query * width], x.dtype())?;
        let sequences = sequences.on(x.device(), machine)?;
        let qkv = machine.input(&qkv)?;
        machine.launch(attention.launch(qkv, sequences, out))?;
        machine.take(out)
    }

    /// Adds the bias to the product, then normalises and rotates the heads of queries and keys, in place.
    fn place_on_device(
        &self,
        machine: &mut dyn Machine,
        qkv: Tensor,
        bias: Option<&Tensor>,
        sequences: &Sequences,
    ) -> Result<Tensor> {
        let Heads { query, key_value, width } = self.heads;
        let device = qkv.device().clone();
        let norms = match &self.head_norms {
            None => None,
            Some((of_queries, of_keys)) => Some(cuda::rotary::HeadNorms {
                query: of_queries.described(machine)?,
                key: of_keys.described(machine)?,
                together: of_queries.width()? != width,
            }),
        };
        let placing = cuda::rotary::HeadPreparation {
            element: device::element(qkv.dtype())?,
            query_heads: query,
            key_value_heads: key_value,
            width,
            bias: machine.optional(bias)?,
            norms,
            rotation: match &self.rotary {
                Some(rotary) => Some(rotary.on(&device, machine, sequences)?),
                None => None,
            },
        };
        let qkv = machine.changed(qkv)?;
        machine.launch(placing.launch(qkv, sequences.tokens()))?;
        machine.take(qkv)
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

    /// [`SelfAttention::contexts`] of candle's operations.
    fn portable_contexts(&self, x: &Tensor, sequences: &Sequences, kept: TokenSelection) -> Result<Tensor> {
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
            let kept = kept.of(length);
            contexts.push(context.narrow(0, kept.start, kept.len())?);
        }
        if contexts.is_empty() {
            bail!("a batch has at least one sequence");
        }
        Tensor::cat(&contexts, 0)
    }

    /// What is added to the scores of a sequence, `[heads or 1, length, length]`.
    fn mask(&self, length: usize, device: &Device) -> Result<Tensor> {
        let heads = self.bias.as_ref().map_or(1, |bias| bias.by_head.len());
        let mut mask = Vec::with_capacity(heads * length * length);
        for head in 0..heads {
            for position in 0..length {
                let seen = self.reach.keys(position, length);
                mask.extend((0..length).map(|key| {
                    let bias = |bias: &Arc<DistanceBias>| bias.by_head[head][bias.positions - 1 + key - position];
                    if seen.contains(&key) { self.bias.as_ref().map_or(0.0, bias) } else { f32::NEG_INFINITY }
                }));
            }
        }
        Tensor::from_vec(mask, (heads, length, length), &Device::Cpu)?.to_device(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::test::{assert_close, random};

    const HIDDEN: usize = 24;

    fn layers(heads: Heads, form: fn(&Tensor, Option<&Tensor>) -> Result<Linear>) -> Result<(Linear, Linear)> {
        let packed = heads.packed_width();
        let qkv = form(&(random(1, &[packed, HIDDEN])? * 2.0)?, Some(&random(2, &[packed])?))?;
        let out = form(&random(3, &[HIDDEN, heads.query * heads.width])?, Some(&random(4, &[HIDDEN])?))?;
        Ok((qkv, out))
    }

    fn attention(
        heads: Heads,
        reach: AttentionSpan,
        extras: bool,
        form: fn(&Tensor, Option<&Tensor>) -> Result<Linear>,
    ) -> Result<SelfAttention> {
        let (qkv, out) = layers(heads, form)?;
        let norm = |seed| Ok::<_, candle_core::Error>(Norm::rms(random(seed, &[heads.width])?, 1e-6));
        let slope =
            |head: usize, distance: isize| (distance as f32 * 0.1).sin() - head as f32 * distance.abs() as f32 * 0.01;
        Ok(SelfAttention {
            qkv,
            out,
            heads,
            scale: 0.7,
            reach,
            head_norms: if extras { Some((norm(5)?, norm(6)?)) } else { None },
            rotary: extras.then(|| Arc::new(Rotary::new(&Rotary::frequencies(1e4, heads.width / 4 * 2), 150))),
            bias: extras.then(|| Arc::new(DistanceBias::new(heads.query, 150, slope))),
        })
    }

    #[test]
    fn the_fused_form_is_the_portable_one() -> Result<()> {
        let sequences = Sequences::of_lengths([1, 2, 130, 6, 7, 55, 48]);
        let x = random(7, &[sequences.tokens(), HIDDEN])?;
        for heads in [Heads::equal(3, 8), Heads { query: 4, key_value: 2, width: 20 }, Heads::equal(1, 32)] {
            for reach in [
                AttentionSpan::Full,
                AttentionSpan::Causal,
                AttentionSpan::Window(3),
                AttentionSpan::Window(40),
                AttentionSpan::CausalWindow(9),
            ] {
                for extras in [false, true] {
                    let fused = attention(heads, reach, extras, Linear::new)?;
                    let portable = attention(heads, reach, extras, Linear::portable)?;
                    let expected = portable.forward(&x, &sequences, TokenSelection::All, Epilogue::sum(&x))?;
                    assert_close(
                        &fused.forward(&x, &sequences, TokenSelection::All, Epilogue::sum(&x))?,
                        &expected,
                        5e-5,
                    )?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn what_is_kept_is_what_it_is_among_all() -> Result<()> {
        let sequences = Sequences::of_lengths([5, 1, 100]);
        let x = random(7, &[sequences.tokens(), HIDDEN])?;
        for form in [Linear::new as fn(&Tensor, Option<&Tensor>) -> Result<Linear>, Linear::portable] {
            let attention = attention(Heads::equal(3, 8), AttentionSpan::Window(30), true, form)?;
            let all = attention.forward(&x, &sequences, TokenSelection::All, Epilogue::default())?;
            for kept in [TokenSelection::First, TokenSelection::Last] {
                let residual = kept.rows(&x, &sequences)?;
                let found = attention.forward(&x, &sequences, kept, Epilogue::sum(&residual))?;
                assert_close(&found, &(kept.rows(&all, &sequences)? + residual)?, 1e-5)?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_query_sees_itself_and_what_is_in_reach() {
        assert_eq!(AttentionSpan::Full.keys(3, 10), 0..10);
        assert_eq!(AttentionSpan::Causal.keys(3, 10), 0..4);
        assert_eq!(AttentionSpan::Window(2).keys(3, 10), 1..6);
        assert_eq!(AttentionSpan::Window(2).keys(9, 10), 7..10);
        assert_eq!(AttentionSpan::CausalWindow(2).keys(3, 10), 2..4);
    }
}
