//! DistilBERT (Sanh et al., 2019; `transformers/models/distilbert/modeling_distilbert.py`): BERT without token types,
//! with names of its own.

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
    ops::{Activation, FeedForward, Gate, Heads},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "DistilBERT",
    model_types: &["distilbert"],
    positions: None,
    prefixes: &["", "distilbert."],
    probe: "embeddings.word_embeddings.weight",
    ignored: &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

/// The ε of the layer norms, which the configuration does not say.
const EPSILON: f64 = 1e-12;

#[derive(Deserialize)]
struct DistilBertConfig {
    vocab_size: usize,
    dim: usize,
    n_layers: usize,
    n_heads: usize,
    hidden_dim: usize,
    max_position_embeddings: usize,
    #[serde(default = "gelu")]
    activation: String,
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let (distil, ..) = settings(config)?;
    Ok(Outline { hidden_size: distil.dim, vocabulary: distil.vocab_size, longest: distil.max_position_embeddings })
}

fn settings(config: &Config) -> Result<(DistilBertConfig, Heads, Activation), ModelError> {
    let distil: DistilBertConfig = config.read()?;
    let activation = config.activation("activation", &distil.activation)?;
    let heads = Heads::equal(distil.n_heads, config.head_width(distil.dim, distil.n_heads)?);
    Ok((distil, heads, activation))
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let (distil, heads, activation) = settings(config)?;
    let (hidden, inner) = (distil.dim, distil.hidden_dim);
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);
    let embeddings = tensors.module("embeddings");
    let positions = embeddings.table("position_embeddings", distil.max_position_embeddings, hidden)?;
    let layer = |index: usize| -> Result<Layer, ModelError> {
        let tensors = tensors.module(format_args!("transformer.layer.{index}"));
        Ok(Layer {
            attention: attention(
                tensors.module("attention").stacked(
                    &["q_lin", "k_lin", "v_lin"].map(|name| (name, hidden)),
                    hidden,
                    true,
                )?,
                tensors.linear("attention.out_lin", hidden, hidden, true)?,
                heads,
            ),
            feed_forward: FeedForward {
                up: tensors.linear("ffn.lin1", hidden, inner, true)?,
                gate: Gate::None,
                activation,
                down: tensors.linear("ffn.lin2", inner, hidden, true)?,
            },
            norms: Norms::Post {
                attention: tensors.layer_norm("sa_layer_norm", hidden, true, EPSILON)?,
                feed_forward: tensors.layer_norm("output_layer_norm", hidden, true, EPSILON)?,
            },
        })
    };
    Ok(Encoder {
        embeddings: Embeddings {
            positions: Some(Positions { table: positions, offset: 0, skipped: None }),
            norm: Some(embeddings.layer_norm("LayerNorm", hidden, true, EPSILON)?),
            ..Embeddings::of_words(embeddings.table("word_embeddings", distil.vocab_size, hidden)?)
        },
        layers: (0..distil.n_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: None,
        hidden_size: hidden,
        vocabulary: distil.vocab_size,
        longest: distil.max_position_embeddings,
    })
}
