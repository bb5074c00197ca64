//! Self-attention over packed sequences: projection, positions, softmax attention, projection back.
//!
//! It has three forms: [`cpu`], [`on_device`] and [`portable`]. An [`AttentionSpan`] limits the keys of a query; a
//! [`DistanceBias`] changes the scores.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use kernels::cuda;

use super::{
    Epilogue, Linear, Norm, Rotary, device,
    sequences::{Sequences, TokenSelection},
    storage,
};

mod bias;
mod cpu;
mod on_device;
mod portable;
mod span;

pub use self::{bias::DistanceBias, span::AttentionSpan};

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
    /// The keys that a query attends to.
    pub span: AttentionSpan,
    /// Normalisations of the queries and of the keys, before the rotation: of each head, or of all heads together.
    pub head_norms: Option<(Norm, Norm)>,
    /// Rotary positions.
    pub rotary: Option<Arc<Rotary>>,
    /// A bias by distance.
    pub bias: Option<Arc<DistanceBias>>,
}

impl SelfAttention {
    /// `x` is `[tokens, hidden]`; the result has a row per selected token, `[selected, hidden]`, finished by the `epilogue`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn forward(
        &self,
        x: &Tensor,
        sequences: &Sequences,
        selected: TokenSelection,
        epilogue: Epilogue<'_>,
    ) -> Result<Tensor> {
        if let Some(mut machine) = device::machine(x).filter(|_| self.heads.width <= cuda::attention::MAX_WIDTH) {
            let contexts = self.device_contexts(&mut *machine, x, sequences, selected)?;
            return self.out.forward_finished(&contexts, epilogue);
        }
        if !(storage::on_cpu(x) && self.qkv.is_packed()) {
            return self.out.forward_finished(&self.portable_contexts(x, sequences, selected)?, epilogue);
        }
        self.forward_on_cpu(x, sequences, selected, epilogue)
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
        span: AttentionSpan,
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
            span,
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
            for span in [
                AttentionSpan::Full,
                AttentionSpan::Causal,
                AttentionSpan::Window(3),
                AttentionSpan::Window(40),
                AttentionSpan::CausalWindow(9),
            ] {
                for extras in [false, true] {
                    let fused = attention(heads, span, extras, Linear::new)?;
                    let portable = attention(heads, span, extras, Linear::portable)?;
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
    fn selected_tokens_have_the_values_that_they_have_among_all() -> Result<()> {
        let sequences = Sequences::of_lengths([5, 1, 100]);
        let x = random(7, &[sequences.tokens(), HIDDEN])?;
        for form in [Linear::new as fn(&Tensor, Option<&Tensor>) -> Result<Linear>, Linear::portable] {
            let attention = attention(Heads::equal(3, 8), AttentionSpan::Window(30), true, form)?;
            let all = attention.forward(&x, &sequences, TokenSelection::All, Epilogue::default())?;
            for selected in [TokenSelection::First, TokenSelection::Last] {
                let residual = selected.rows(&x, &sequences)?;
                let rows = attention.forward(&x, &sequences, selected, Epilogue::sum(&residual))?;
                assert_close(&rows, &(selected.rows(&all, &sequences)? + residual)?, 1e-5)?;
            }
        }
        Ok(())
    }
}
