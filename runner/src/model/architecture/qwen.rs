//! Qwen2 and Qwen3 (Yang et al., 2024 and 2025; `transformers/models/qwen3/modeling_qwen3.py`): causal decoders with
//! rotary positions and shared heads of keys and values, used as encoders of the last token.

use serde::Deserialize;

use super::{
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
    ops::{Activation, AttentionSpan, FeedForward, Gate, Heads, Norm, SelfAttention},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "Qwen2, Qwen3",
    model_types: &["qwen2", "qwen3"],
    positions: None,
    prefixes: &["", "model."],
    probe: "embed_tokens.weight",
    ignored: &["lm_head."],
    special_tokens: SpecialTokens::AsTokenizer,
    outline,
    load,
};

#[derive(Deserialize)]
struct QwenConfig {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    rms_norm_eps: f64,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
    layer_types: Option<Vec<String>>,
    #[serde(default = "yes")]
    is_causal: bool,
}

fn silu() -> String {
    "silu".to_owned()
}

fn epsilon() -> f64 {
    1e-6
}

fn yes() -> bool {
    true
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let (qwen, ..) = settings(config)?;
    Ok(Outline {
        hidden_size: qwen.hidden_size,
        vocabulary: qwen.vocab_size,
        longest: config.positions(qwen.max_position_embeddings),
    })
}

/// The configuration, its heads, its activation, and the base of its rotations.
fn settings(config: &Config) -> Result<(QwenConfig, Heads, Activation, f64), ModelError> {
    let qwen: QwenConfig = config.read()?;
    config.expect("use_sliding_window", &qwen.use_sliding_window.to_string(), &["false"])?;
    for kind in qwen.layer_types.iter().flatten() {
        config.expect("layer_types", kind, &["full_attention"])?;
    }
    let activation = config.activation("hidden_act", &qwen.hidden_act)?;
    let (query, key_value) = (qwen.num_attention_heads, qwen.num_key_value_heads);
    let heads = shared_heads(config, qwen.hidden_size, query, key_value, qwen.head_dim)?;
    let theta = rope::theta(config, "", "rope_theta", Some(10_000.0))?;
    Ok((qwen, heads, activation, theta))
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let (qwen, heads, activation, theta) = settings(config)?;
    let (hidden, inner, epsilon) = (qwen.hidden_size, qwen.intermediate_size, qwen.rms_norm_eps);
    let third = qwen.model_type == "qwen3";
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);
    let rotary = rope::rotary(theta, heads.width, config.positions(qwen.max_position_embeddings));
    let layer = |index: usize| -> Result<Layer, ModelError> {
        let tensors = tensors.module(format_args!("layers.{index}"));
        let norm = |name: &str, width| Ok(Norm::rms(tensors.module(name).tensor("weight", &[width])?, epsilon));
        let projections = tensors.module("self_attn");
        let head_norms = third
            .then(|| Ok((norm("self_attn.q_norm", heads.width)?, norm("self_attn.k_norm", heads.width)?)))
            .transpose()?;
        Ok(Layer {
            attention: SelfAttention {
                qkv: shared_qkv(&projections, heads, hidden, !third || qwen.attention_bias)?,
                out: projections.linear("o_proj", heads.query * heads.width, hidden, third && qwen.attention_bias)?,
                heads,
                scale: 1.0 / (heads.width as f32).sqrt(),
                span: if qwen.is_causal { AttentionSpan::Causal } else { AttentionSpan::Full },
                head_norms,
                rotary: Some(rotary.clone()),
                bias: None,
            },
            feed_forward: FeedForward {
                up: tensors.module("mlp").stacked(
                    &["gate_proj", "up_proj"].map(|name| (name, inner)),
                    hidden,
                    false,
                )?,
                gate: Gate::First,
                activation,
                down: tensors.linear("mlp.down_proj", inner, hidden, false)?,
            },
            norms: Norms::Pre {
                attention: Some(norm("input_layernorm", hidden)?),
                feed_forward: norm("post_attention_layernorm", hidden)?,
            },
        })
    };
    Ok(Encoder {
        embeddings: Embeddings::of_words(tensors.table("embed_tokens", qwen.vocab_size, hidden)?),
        layers: (0..qwen.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: Some(Norm::rms(tensors.tensor("norm.weight", &[hidden])?, epsilon)),
        hidden_size: hidden,
        vocabulary: qwen.vocab_size,
        longest: config.positions(qwen.max_position_embeddings),
    })
}

/// The heads of a decoder whose keys and values are shared.
pub(super) fn shared_heads(
    config: &Config,
    hidden: usize,
    query: usize,
    key_value: Option<usize>,
    width: Option<usize>,
) -> Result<Heads, ModelError> {
    let key_value = key_value.unwrap_or(query);
    let width = width.map_or_else(|| config.head_width(hidden, query), Ok)?;
    if key_value == 0 || !query.is_multiple_of(key_value) {
        let found = format!("{key_value} (of num_attention_heads {query})");
        return Err(config.contradiction("num_key_value_heads", &found, "a divisor of num_attention_heads"));
    }
    Ok(Heads { query, key_value, width })
}

/// The projections of a decoder, `q_proj`, `k_proj` and `v_proj`, as one.
pub(super) fn shared_qkv(
    tensors: &Tensors,
    heads: Heads,
    hidden: usize,
    bias: bool,
) -> Result<crate::ops::Linear, ModelError> {
    let shared = heads.key_value * heads.width;
    tensors.stacked(&[("q_proj", heads.query * heads.width), ("k_proj", shared), ("v_proj", shared)], hidden, bias)
}
