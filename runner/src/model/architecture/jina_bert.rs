//! JinaBERT v2 (Günther et al., 2023; jina-embeddings-v2): BERT with ALiBi on both sides (Press et al., 2021) in place of
//! positions, and gated feed-forward networks. It is published as remote code, which is never run; of its two forms the
//! one for code also normalises queries and keys.

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
        transformer::{Embeddings, Encoder, Layer, Norms},
        weights::Tensors,
    },
    ops::{Activation, DistanceBias, FeedForward, Gate, Heads, SelfAttention},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "JinaBERT v2",
    model_types: &["bert"],
    positions: Some("alibi"),
    prefixes: &["", "bert."],
    probe: "embeddings.word_embeddings.weight",
    ignored: &["pooler.", "cls."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

#[derive(Deserialize)]
struct JinaConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    feed_forward_type: String,
    layer_norm_eps: f64,
    type_vocab_size: usize,
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let (jina, ..) = settings(config)?;
    Ok(Outline { hidden_size: jina.hidden_size, vocabulary: jina.vocab_size, longest: jina.max_position_embeddings })
}

fn settings(config: &Config) -> Result<(JinaConfig, Heads, Activation), ModelError> {
    let jina: JinaConfig = config.read()?;
    // The activation of a network without gates, which this one does not have.
    config.get("hidden_act");
    let activation = match jina.feed_forward_type.as_str() {
        "geglu" => Activation::Gelu,
        "reglu" => Activation::Relu,
        other => return Err(config.contradiction("feed_forward_type", other, "geglu, reglu")),
    };
    let heads = Heads::equal(jina.num_attention_heads, config.head_width(jina.hidden_size, jina.num_attention_heads)?);
    Ok((jina, heads, activation))
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let (jina, heads, activation) = settings(config)?;
    let (hidden, epsilon) = (jina.hidden_size, jina.layer_norm_eps);
    let slopes = slopes(heads.query);
    let bias = DistanceBias::new(heads.query, jina.max_position_embeddings, |head, distance| {
        -slopes[head] * distance.unsigned_abs() as f32
    });
    let bias = Arc::new(bias);
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);
    let layer = |index: usize| {
        let tensors = tensors.module(format_args!("encoder.layer.{index}"));
        layer(&jina, heads, activation, &bias, &tensors)
    };
    let embeddings = tensors.module("embeddings");
    Ok(Encoder {
        embeddings: Embeddings {
            types: Some(embeddings.table("token_type_embeddings", jina.type_vocab_size, hidden)?),
            norm: Some(embeddings.layer_norm("LayerNorm", hidden, true, epsilon)?),
            ..Embeddings::of_words(embeddings.table("word_embeddings", jina.vocab_size, hidden)?)
        },
        layers: (0..jina.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: None,
        hidden_size: hidden,
        vocabulary: jina.vocab_size,
        longest: jina.max_position_embeddings,
    })
}

fn layer(
    jina: &JinaConfig,
    heads: Heads,
    activation: Activation,
    bias: &Arc<DistanceBias>,
    tensors: &Tensors,
) -> Result<Layer, ModelError> {
    let (hidden, inner) = (jina.hidden_size, jina.intermediate_size);
    let norm = |name: &str| tensors.layer_norm(name, hidden, true, jina.layer_norm_eps);
    let for_code = tensors.has("attention.self.layer_norm_q.weight");
    let head_norms = for_code
        .then(|| Ok((norm("attention.self.layer_norm_q")?, norm("attention.self.layer_norm_k")?)))
        .transpose()?;
    // The two forms gate with opposite halves, under names of their own.
    let (up, gate, down) = if for_code {
        ("mlp.up_gated_layer", Gate::Second, "mlp.down_layer")
    } else {
        ("mlp.gated_layers", Gate::First, "mlp.wo")
    };
    let norms = if for_code {
        Norms::PostTwice {
            attention: norm("attention.output.LayerNorm")?,
            again: norm("layer_norm_1")?,
            feed_forward: norm("layer_norm_2")?,
        }
    } else {
        Norms::Post { attention: norm("attention.output.LayerNorm")?, feed_forward: norm("mlp.layernorm")? }
    };
    let parts = ["query", "key", "value"].map(|part| (part, hidden));
    Ok(Layer {
        attention: SelfAttention {
            head_norms,
            bias: Some(Arc::clone(bias)),
            ..attention(
                tensors.module("attention.self").stacked(&parts, hidden, true)?,
                tensors.linear("attention.output.dense", hidden, hidden, true)?,
                heads,
            )
        },
        feed_forward: FeedForward {
            up: tensors.linear(up, hidden, 2 * inner, false)?,
            gate,
            activation,
            down: tensors.linear(down, inner, hidden, true)?,
        },
        norms,
    })
}

/// The slope of each head: 2^(-8⋅n/heads) for n = 1, 2, …; for a number of heads that is no power of two, those of the
/// next lower one and then every other one of twice as many.
fn slopes(heads: usize) -> Vec<f32> {
    let series = |count: usize| (1..=count).map(move |n| (-8.0 * n as f64 / count as f64).exp2() as f32);
    let power = if heads.is_power_of_two() { heads } else { heads.next_power_of_two() / 2 };
    series(power).chain(series(2 * power).step_by(2)).take(heads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_a_geometric_series() {
        assert_eq!(slopes(2), [0.0625, 0.003_906_25]);
        let six = slopes(6);
        assert_eq!(six[..4], slopes(4)[..]);
        assert_eq!(six[4..], [0.5, 0.125]);
    }
}
