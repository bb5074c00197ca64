//! NomicBERT (Nussbaum et al., 2024; `transformers/models/nomic_bert`): BERT with rotary positions, gated feed-forward
//! networks and no biases. Its configuration is that of GPT-2 in the published checkpoints and BERT's in those that
//! `transformers` saves.

use serde::Deserialize;

use super::{
    bert::attention,
    definition::{Architecture, Outline},
    rope,
};
use crate::{
    model::{
        ModelError, Weights,
        config::Config,
        transformer::{Embeddings, Encoder, Layer, Norms},
        weights::Tensors,
    },
    ops::{Activation, FeedForward, Gate, Heads, SelfAttention},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "NomicBERT",
    model_types: &["nomic_bert"],
    positions: None,
    prefixes: &["", "bert.", "nomic_bert."],
    probe: "embeddings.word_embeddings.weight",
    ignored: &["pooler.", "cls."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

#[derive(Deserialize)]
struct NomicConfig {
    vocab_size: usize,
    #[serde(alias = "n_embd")]
    hidden_size: usize,
    #[serde(alias = "n_layer")]
    num_hidden_layers: usize,
    #[serde(alias = "n_head")]
    num_attention_heads: usize,
    #[serde(alias = "n_inner")]
    intermediate_size: usize,
    #[serde(alias = "n_positions")]
    max_position_embeddings: usize,
    #[serde(alias = "layer_norm_epsilon", default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default)]
    qkv_proj_bias: bool,
    #[serde(default)]
    mlp_fc1_bias: bool,
    #[serde(default)]
    mlp_fc2_bias: bool,
}

fn epsilon() -> f64 {
    1e-12
}

fn two() -> usize {
    2
}

/// Switches of the published configuration, and the only value that is computed.
const SWITCHES: [(&str, &str); 8] = [
    ("prenorm", "false"),
    ("parallel_block", "false"),
    ("use_rms_norm", "false"),
    ("causal", "false"),
    ("rotary_emb_interleaved", "false"),
    ("rotary_scaling_factor", "null"),
    ("num_experts", "null"),
    ("rotary_emb_scale_base", "null"),
];

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let (nomic, ..) = settings(config)?;
    Ok(Outline {
        hidden_size: nomic.hidden_size,
        vocabulary: nomic.vocab_size,
        longest: config.positions(nomic.max_position_embeddings),
    })
}

/// The configuration, its heads, its activation, and the base of its rotations.
fn settings(config: &Config) -> Result<(NomicConfig, Heads, Activation, f64), ModelError> {
    let nomic: NomicConfig = config.read()?;
    for (field, supported) in SWITCHES {
        let found = config.get(field);
        if !found.is_null() {
            config.expect(field, &found.to_string(), &[supported])?;
        }
    }
    if let Some(fraction) = config.get("rotary_emb_fraction").as_f64() {
        config.expect("rotary_emb_fraction", &fraction.to_string(), &["1"])?;
    }
    // The published name precedes that of `transformers`.
    let saved = config.get("hidden_act").as_str().unwrap_or("silu");
    let activation = match config.get("activation_function").as_str() {
        None => config.activation("hidden_act", saved)?,
        Some("swiglu") => Activation::Silu,
        Some("geglu") => Activation::Gelu,
        Some(other) => return Err(config.contradiction("activation_function", other, "swiglu, geglu")),
    };
    let width = config.head_width(nomic.hidden_size, nomic.num_attention_heads)?;
    if let Some(head_dim) = config.get("head_dim").as_u64() {
        config.expect("head_dim", &head_dim.to_string(), &[&width.to_string()])?;
    }
    let theta = rope::theta(config, "", "rotary_emb_base", Some(10_000.0))?;
    let heads = Heads::equal(nomic.num_attention_heads, width);
    Ok((nomic, heads, activation, theta))
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let (nomic, heads, activation, theta) = settings(config)?;
    let (hidden, inner, epsilon) = (nomic.hidden_size, nomic.intermediate_size, nomic.layer_norm_eps);
    let rotary = rope::rotary(theta, heads.width, config.positions(nomic.max_position_embeddings));
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);
    let layer = |index: usize| -> Result<Layer, ModelError> {
        let tensors = tensors.module(format_args!("encoder.layers.{index}"));
        let norm = |name: &str| tensors.layer_norm(name, hidden, true, epsilon);
        let ups = ["fc11", "fc12"].map(|name| (name, inner));
        Ok(Layer {
            attention: SelfAttention {
                rotary: Some(rotary.clone()),
                ..attention(
                    tensors.linear("attn.Wqkv", hidden, 3 * hidden, nomic.qkv_proj_bias)?,
                    tensors.linear("attn.out_proj", hidden, hidden, nomic.qkv_proj_bias)?,
                    heads,
                )
            },
            feed_forward: FeedForward {
                up: tensors.module("mlp").stacked(&ups, hidden, nomic.mlp_fc1_bias)?,
                gate: Gate::Second,
                activation,
                down: tensors.linear("mlp.fc2", inner, hidden, nomic.mlp_fc2_bias)?,
            },
            norms: Norms::Post { attention: norm("norm1")?, feed_forward: norm("norm2")? },
        })
    };
    let embeddings = tensors.module("embeddings");
    let types = (nomic.type_vocab_size > 0)
        .then(|| embeddings.table("token_type_embeddings", nomic.type_vocab_size, hidden))
        .transpose()?;
    Ok(Encoder {
        embeddings: Embeddings {
            types,
            norm: Some(tensors.layer_norm("emb_ln", hidden, true, epsilon)?),
            ..Embeddings::of_words(embeddings.table("word_embeddings", nomic.vocab_size, hidden)?)
        },
        layers: (0..nomic.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: None,
        hidden_size: hidden,
        vocabulary: nomic.vocab_size,
        longest: config.positions(nomic.max_position_embeddings),
    })
}
