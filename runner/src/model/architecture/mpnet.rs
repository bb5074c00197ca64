//! MPNet (Song et al., 2020; `transformers/models/mpnet/modeling_mpnet.py`): BERT with a bias by distance that all layers
//! share, and positions that begin behind the padding id.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    bert::attention,
    definition::{Architecture, Outline},
};
use crate::{
    model::{
        ModelError, Weights,
        config::Config,
        transformer::{Embeddings, Encoder, Layer, Norms, Positions},
        weights::Tensors,
    },
    ops::{Activation, DistanceBias, FeedForward, Gate, Heads, SelfAttention},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "MPNet",
    model_types: &["mpnet"],
    positions: None,
    prefixes: &["", "mpnet."],
    probe: "embeddings.word_embeddings.weight",
    ignored: &["pooler.", "lm_head."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

/// The distance beyond which all share the last bucket.
const FARTHEST: f32 = 128.0;

#[derive(Deserialize)]
struct MpnetConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "buckets")]
    relative_attention_num_buckets: usize,
    #[serde(default = "padding")]
    pad_token_id: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
}

fn buckets() -> usize {
    32
}

fn padding() -> usize {
    1
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn epsilon() -> f64 {
    1e-12
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let (mpnet, ..) = settings(config)?;
    Ok(Outline { hidden_size: mpnet.hidden_size, vocabulary: mpnet.vocab_size, longest: mpnet.longest() })
}

impl MpnetConfig {
    /// The index of the first position, behind that of the padding.
    fn offset(&self) -> usize {
        self.pad_token_id + 1
    }

    fn longest(&self) -> usize {
        self.max_position_embeddings.saturating_sub(self.offset())
    }
}

fn settings(config: &Config) -> Result<(MpnetConfig, Heads, Activation), ModelError> {
    let mpnet: MpnetConfig = config.read()?;
    let activation = config.activation("hidden_act", &mpnet.hidden_act)?;
    let width = config.head_width(mpnet.hidden_size, mpnet.num_attention_heads)?;
    let heads = Heads::equal(mpnet.num_attention_heads, width);
    Ok((mpnet, heads, activation))
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let (mpnet, heads, activation) = settings(config)?;
    let (hidden, inner, epsilon) = (mpnet.hidden_size, mpnet.intermediate_size, mpnet.layer_norm_eps);
    let (offset, longest) = (mpnet.offset(), mpnet.longest());
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);

    let buckets = mpnet.relative_attention_num_buckets;
    let table = tensors.tensor("encoder.relative_attention_bias.weight", &[buckets, heads.query])?;
    let table =
        tensors.with_context(table.to_dtype(candle_core::DType::F32).and_then(|table| table.to_vec2::<f32>()))?;
    let bias = DistanceBias::new(heads.query, longest, |head, distance| table[bucket(distance, buckets)][head]);
    let bias = Arc::new(bias);

    let embeddings = tensors.module("embeddings");
    let positions = embeddings.table("position_embeddings", mpnet.max_position_embeddings, hidden)?;
    let layer = |index: usize| -> Result<Layer, ModelError> {
        let tensors = tensors.module(format_args!("encoder.layer.{index}"));
        let projections = tensors.module("attention.attn");
        Ok(Layer {
            attention: SelfAttention {
                bias: Some(Arc::clone(&bias)),
                ..attention(
                    projections.stacked(&["q", "k", "v"].map(|name| (name, hidden)), hidden, true)?,
                    projections.linear("o", hidden, hidden, true)?,
                    heads,
                )
            },
            feed_forward: FeedForward {
                up: tensors.linear("intermediate.dense", hidden, inner, true)?,
                gate: Gate::None,
                activation,
                down: tensors.linear("output.dense", inner, hidden, true)?,
            },
            norms: Norms::Post {
                attention: tensors.layer_norm("attention.LayerNorm", hidden, true, epsilon)?,
                feed_forward: tensors.layer_norm("output.LayerNorm", hidden, true, epsilon)?,
            },
        })
    };
    Ok(Encoder {
        embeddings: Embeddings {
            positions: Some(Positions { table: positions, offset, skipped: Some(mpnet.pad_token_id as u32) }),
            norm: Some(embeddings.layer_norm("LayerNorm", hidden, true, epsilon)?),
            ..Embeddings::of_words(embeddings.table("word_embeddings", mpnet.vocab_size, hidden)?)
        },
        layers: (0..mpnet.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: None,
        hidden_size: hidden,
        vocabulary: mpnet.vocab_size,
        longest,
    })
}

/// The bucket of a distance (key minus query), as T5 has them (Raffel et al., 2019): half of the buckets for each side,
/// half of those for a distance each, the rest for ranges that grow by a constant factor.
fn bucket(distance: isize, buckets: usize) -> usize {
    let side = buckets / 2;
    let exact = side / 2;
    let first = if distance > 0 { side } else { 0 };
    let distance = distance.unsigned_abs();
    if distance < exact {
        return first + distance;
    }
    let ratio = (distance as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln();
    first + side.saturating_sub(1).min(exact + (ratio * (side - exact) as f32) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_distances_have_a_bucket_each_and_far_ones_share() {
        let of = |distance| bucket(distance, 32);
        assert_eq!([0, -1, -7, -8].map(of), [0, 1, 7, 8]);
        assert_eq!([1, 7, 8].map(of), [17, 23, 24]);
        assert_eq!([-127, -128, -5000, 5000].map(of), [15, 15, 15, 31]);
        assert!((-300..300).all(|distance| of(distance) < 32));
    }
}
