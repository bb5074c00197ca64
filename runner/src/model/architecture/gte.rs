//! GTE's `new` encoder (Zhang et al., 2024; gte-base-en-v1.5, gte-multilingual-base): BERT with rotary positions and
//! gated feed-forward networks. It is published as remote code, which is never run.

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
    ops::{Activation, FeedForward, Gate, Heads, Rotary, SelfAttention},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "GTE (new)",
    model_types: &["new"],
    positions: None,
    prefixes: &["", "new."],
    probe: "embeddings.word_embeddings.weight",
    ignored: &["pooler.", "lm_head.", "classifier."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

#[derive(Deserialize)]
struct NewConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    #[serde(default)]
    type_vocab_size: usize,
    position_embedding_type: String,
    rope_theta: f64,
    rope_scaling: Option<Scaling>,
    #[serde(default = "layer_norm")]
    layer_norm_type: String,
    #[serde(default = "yes")]
    pack_qkv: bool,
    #[serde(default)]
    logn_attention_scale: bool,
}

#[derive(Deserialize)]
struct Scaling {
    #[serde(rename = "type")]
    kind: String,
    factor: f64,
    mixed_b: Option<f64>,
}

fn layer_norm() -> String {
    "layer_norm".to_owned()
}

fn yes() -> bool {
    true
}

impl NewConfig {
    /// The frequencies of heads of `width`, with the NTK scaling of the published code: a larger base, and all
    /// frequencies divided alike, so that the highest is a little below 1.
    fn frequencies(&self, config: &Config, width: usize) -> Result<Vec<f64>, ModelError> {
        let Some(scaling) = &self.rope_scaling else { return Ok(Rotary::frequencies(self.rope_theta, width)) };
        config.expect("rope_scaling.type", &scaling.kind, &["ntk"])?;
        if let Some(mixed) = scaling.mixed_b {
            return Err(config.contradiction("rope_scaling.mixed_b", &mixed.to_string(), "none"));
        }
        let divisor = scaling.factor.powf(2.0 / width as f64);
        let frequencies = Rotary::frequencies(self.rope_theta * scaling.factor, width);
        Ok(frequencies.into_iter().map(|frequency| frequency / divisor).collect())
    }
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let (new, ..) = settings(config)?;
    Ok(Outline {
        hidden_size: new.hidden_size,
        vocabulary: new.vocab_size,
        longest: config.positions(new.max_position_embeddings),
    })
}

/// The configuration, its heads, its activation, and the frequencies of its rotations.
fn settings(config: &Config) -> Result<(NewConfig, Heads, Activation, Vec<f64>), ModelError> {
    let new: NewConfig = config.read()?;
    config.expect("position_embedding_type", &new.position_embedding_type, &["rope"])?;
    config.expect("layer_norm_type", &new.layer_norm_type, &["layer_norm"])?;
    config.expect("pack_qkv", &new.pack_qkv.to_string(), &["true"])?;
    config.expect("logn_attention_scale", &new.logn_attention_scale.to_string(), &["false"])?;
    let activation = config.activation("hidden_act", &new.hidden_act)?;
    let heads = Heads::equal(new.num_attention_heads, config.head_width(new.hidden_size, new.num_attention_heads)?);
    let frequencies = new.frequencies(config, heads.width)?;
    Ok((new, heads, activation, frequencies))
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let (new, heads, activation, frequencies) = settings(config)?;
    let (hidden, inner, epsilon) = (new.hidden_size, new.intermediate_size, new.layer_norm_eps);
    let rotary = Arc::new(Rotary::new(&frequencies, config.positions(new.max_position_embeddings)));
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);
    let layer = |index: usize| -> Result<Layer, ModelError> {
        let tensors = tensors.module(format_args!("encoder.layer.{index}"));
        let norm = |name: &str| tensors.layer_norm(name, hidden, true, epsilon);
        Ok(Layer {
            attention: SelfAttention {
                rotary: Some(Arc::clone(&rotary)),
                ..attention(
                    tensors.linear("attention.qkv_proj", hidden, 3 * hidden, true)?,
                    tensors.linear("attention.o_proj", hidden, hidden, true)?,
                    heads,
                )
            },
            feed_forward: FeedForward {
                up: tensors.linear("mlp.up_gate_proj", hidden, 2 * inner, false)?,
                gate: Gate::Second,
                activation,
                down: tensors.linear("mlp.down_proj", inner, hidden, true)?,
            },
            norms: Norms::Post { attention: norm("attn_ln")?, feed_forward: norm("mlp_ln")? },
        })
    };
    let embeddings = tensors.module("embeddings");
    let types = (new.type_vocab_size > 0)
        .then(|| embeddings.table("token_type_embeddings", new.type_vocab_size, hidden))
        .transpose()?;
    Ok(Encoder {
        embeddings: Embeddings {
            types,
            norm: Some(embeddings.layer_norm("LayerNorm", hidden, true, epsilon)?),
            ..Embeddings::of_words(embeddings.table("word_embeddings", new.vocab_size, hidden)?)
        },
        layers: (0..new.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: None,
        hidden_size: hidden,
        vocabulary: new.vocab_size,
        longest: config.positions(new.max_position_embeddings),
    })
}
