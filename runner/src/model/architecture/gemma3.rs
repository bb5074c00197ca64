//! Gemma 3 as an encoder (EmbeddingGemma; `transformers/models/gemma3/modeling_gemma3.py`): a decoder that sees both
//! sides, with norms around each function and windows in most layers.

use candle_core::Tensor;
use serde::Deserialize;

use super::{
    definition::{Architecture, Outline},
    qwen::{shared_heads, shared_qkv},
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
    name: "Gemma 3 (EmbeddingGemma)",
    model_types: &["gemma3_text"],
    positions: None,
    prefixes: &["", "model."],
    probe: "embed_tokens.weight",
    ignored: &["lm_head."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

#[derive(Deserialize)]
struct GemmaConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    sliding_window: usize,
    layer_types: Option<Vec<String>>,
    #[serde(alias = "_sliding_window_pattern", default = "six")]
    sliding_window_pattern: usize,
    query_pre_attn_scalar: f64,
    #[serde(default = "gelu")]
    hidden_activation: String,
    #[serde(default = "epsilon")]
    rms_norm_eps: f64,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    use_bidirectional_attention: bool,
}

fn six() -> usize {
    6
}

fn gelu() -> String {
    "gelu_pytorch_tanh".to_owned()
}

fn epsilon() -> f64 {
    1e-6
}

impl GemmaConfig {
    /// Whether a layer sees everything.
    fn is_full(&self, config: &Config, index: usize) -> Result<bool, ModelError> {
        let Some(kinds) = &self.layer_types else {
            return Ok((index + 1).is_multiple_of(self.sliding_window_pattern.max(1)));
        };
        let kind = kinds.get(index).map(String::as_str).unwrap_or_default();
        config.expect("layer_types", kind, &[FULL, SLIDING])?;
        Ok(kind == FULL)
    }

    fn span(&self, is_full: bool) -> AttentionSpan {
        match (self.use_bidirectional_attention, is_full) {
            (true, true) => AttentionSpan::Full,
            // The window counts both sides.
            (true, false) => AttentionSpan::Window(self.sliding_window / 2),
            (false, true) => AttentionSpan::Causal,
            (false, false) => AttentionSpan::CausalWindow(self.sliding_window),
        }
    }
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let Settings { gemma, .. } = settings(config)?;
    Ok(Outline {
        hidden_size: gemma.hidden_size,
        vocabulary: gemma.vocab_size,
        longest: config.positions(gemma.max_position_embeddings),
    })
}

/// The configuration and what follows from it.
struct Settings {
    gemma: GemmaConfig,
    heads: Heads,
    activation: Activation,
    /// The bases of the rotations, of layers that see everything and of the others.
    thetas: [f64; 2],
    /// Whether each layer sees everything.
    full: Vec<bool>,
}

fn settings(config: &Config) -> Result<Settings, ModelError> {
    let gemma = read(config)?;
    let (query, key_value) = (gemma.num_attention_heads, gemma.num_key_value_heads);
    let heads = shared_heads(config, gemma.hidden_size, query, key_value, Some(gemma.head_dim))?;
    let theta = |kind, old, default| rope::theta(config, kind, old, Some(default));
    Ok(Settings {
        heads,
        activation: config.activation("hidden_activation", &gemma.hidden_activation)?,
        thetas: [theta(FULL, "rope_theta", 1e6)?, theta(SLIDING, "rope_local_base_freq", 1e4)?],
        full: (0..gemma.num_hidden_layers).map(|index| gemma.is_full(config, index)).collect::<Result<_, _>>()?,
        gemma,
    })
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let Settings { gemma, heads, activation, thetas, full: is_full } = settings(config)?;
    let (hidden, inner) = (gemma.hidden_size, gemma.intermediate_size);
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);
    let [full, sliding] =
        thetas.map(|theta| rope::rotary(theta, heads.width, config.positions(gemma.max_position_embeddings)));
    let layer = |index: usize| -> Result<Layer, ModelError> {
        let tensors = tensors.module(format_args!("layers.{index}"));
        let norm = |name: &str, width| norm(&tensors.module(name), width, gemma.rms_norm_eps);
        let projections = tensors.module("self_attn");
        let is_full = is_full[index];
        Ok(Layer {
            attention: SelfAttention {
                qkv: shared_qkv(&projections, heads, hidden, gemma.attention_bias)?,
                out: projections.linear("o_proj", heads.query * heads.width, hidden, gemma.attention_bias)?,
                heads,
                scale: (1.0 / gemma.query_pre_attn_scalar.sqrt()) as f32,
                span: gemma.span(is_full),
                head_norms: Some((norm("self_attn.q_norm", heads.width)?, norm("self_attn.k_norm", heads.width)?)),
                rotary: Some(if is_full { full.clone() } else { sliding.clone() }),
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
            norms: Norms::Around {
                attention: [norm("input_layernorm", hidden)?, norm("post_attention_layernorm", hidden)?],
                feed_forward: [norm("pre_feedforward_layernorm", hidden)?, norm("post_feedforward_layernorm", hidden)?],
            },
        })
    };
    Ok(Encoder {
        embeddings: Embeddings {
            scale: Some((hidden as f64).sqrt()),
            ..Embeddings::of_words(tensors.table("embed_tokens", gemma.vocab_size, hidden)?)
        },
        layers: (0..gemma.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: Some(norm(&tensors.module("norm"), hidden, gemma.rms_norm_eps)?),
        hidden_size: hidden,
        vocabulary: gemma.vocab_size,
        longest: config.positions(gemma.max_position_embeddings),
    })
}

/// Reads the configuration, in which two names of one field may stand side by side.
fn read(config: &Config) -> Result<GemmaConfig, ModelError> {
    config.without("_sliding_window_pattern", "sliding_window_pattern").read()
}

/// Gemma's RMS normalisation multiplies with 1 + weight.
fn norm(tensors: &Tensors, width: usize, epsilon: f64) -> Result<Norm, ModelError> {
    let weight: Tensor = tensors.tensor("weight", &[width])?;
    Ok(Norm::rms(tensors.with_context(weight + 1.0)?, epsilon))
}
