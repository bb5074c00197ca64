//! ModernBERT (Warner et al., 2024; `transformers/models/modernbert/modeling_modernbert.py`): rotary positions, norms
//! before each function, gated feed-forward networks, and layers that see a window between those that see everything.

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
    ops::{Activation, AttentionSpan, FeedForward, Gate, Heads, SelfAttention},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "ModernBERT",
    model_types: &["modernbert"],
    positions: None,
    prefixes: &["", "model."],
    probe: "embeddings.tok_embeddings.weight",
    ignored: &["head.", "decoder."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

#[derive(Deserialize)]
struct ModernBertConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    local_attention: usize,
    layer_types: Option<Vec<String>>,
    #[serde(default = "three")]
    global_attn_every_n_layers: usize,
    #[serde(default = "gelu")]
    hidden_activation: String,
    #[serde(default = "epsilon")]
    norm_eps: f64,
    #[serde(default)]
    norm_bias: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

fn three() -> usize {
    3
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn epsilon() -> f64 {
    1e-5
}

impl ModernBertConfig {
    /// Whether a layer sees everything.
    fn is_full(&self, config: &Config, index: usize) -> Result<bool, ModelError> {
        let Some(kinds) = &self.layer_types else {
            return Ok(index.is_multiple_of(self.global_attn_every_n_layers.max(1)));
        };
        let kind = kinds.get(index).map(String::as_str).unwrap_or_default();
        config.expect("layer_types", kind, &[FULL, SLIDING])?;
        Ok(kind == FULL)
    }
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    let Settings { modern, .. } = settings(config)?;
    Ok(Outline {
        hidden_size: modern.hidden_size,
        vocabulary: modern.vocab_size,
        longest: config.positions(modern.max_position_embeddings),
    })
}

/// The configuration and what follows from it.
struct Settings {
    modern: ModernBertConfig,
    heads: Heads,
    activation: Activation,
    /// The bases of the rotations, of layers that see everything and of the others.
    thetas: [f64; 2],
    /// Whether each layer sees everything.
    full: Vec<bool>,
}

fn settings(config: &Config) -> Result<Settings, ModelError> {
    let modern: ModernBertConfig = config.read()?;
    let theta = |kind, old, default| rope::theta(config, kind, old, Some(default));
    let width = config.head_width(modern.hidden_size, modern.num_attention_heads)?;
    Ok(Settings {
        heads: Heads::equal(modern.num_attention_heads, width),
        activation: config.activation("hidden_activation", &modern.hidden_activation)?,
        thetas: [theta(FULL, "global_rope_theta", 160_000.0)?, theta(SLIDING, "local_rope_theta", 10_000.0)?],
        full: (0..modern.num_hidden_layers).map(|index| modern.is_full(config, index)).collect::<Result<_, _>>()?,
        modern,
    })
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let Settings { modern, heads, activation, thetas, full: is_full } = settings(config)?;
    let (hidden, inner, epsilon) = (modern.hidden_size, modern.intermediate_size, modern.norm_eps);
    let tensors = Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe);
    let [full, sliding] =
        thetas.map(|theta| rope::rotary(theta, heads.width, config.positions(modern.max_position_embeddings)));
    let layer = |index: usize| -> Result<Layer, ModelError> {
        let tensors = tensors.module(format_args!("layers.{index}"));
        let norm = |name: &str| tensors.layer_norm(name, hidden, modern.norm_bias, epsilon);
        let is_full = is_full[index];
        Ok(Layer {
            attention: SelfAttention {
                span: if is_full { AttentionSpan::Full } else { AttentionSpan::Window(modern.local_attention / 2) },
                rotary: Some(if is_full { full.clone() } else { sliding.clone() }),
                ..attention(
                    tensors.linear("attn.Wqkv", hidden, 3 * hidden, modern.attention_bias)?,
                    tensors.linear("attn.Wo", hidden, hidden, modern.attention_bias)?,
                    heads,
                )
            },
            feed_forward: FeedForward {
                up: tensors.linear("mlp.Wi", hidden, 2 * inner, modern.mlp_bias)?,
                gate: Gate::First,
                activation,
                down: tensors.linear("mlp.Wo", inner, hidden, modern.mlp_bias)?,
            },
            norms: Norms::Pre {
                // The embeddings have just been normalised.
                attention: if index == 0 { None } else { Some(norm("attn_norm")?) },
                feed_forward: norm("mlp_norm")?,
            },
        })
    };
    let embeddings = tensors.module("embeddings");
    Ok(Encoder {
        embeddings: Embeddings {
            norm: Some(embeddings.layer_norm("norm", hidden, modern.norm_bias, epsilon)?),
            ..Embeddings::of_words(embeddings.table("tok_embeddings", modern.vocab_size, hidden)?)
        },
        layers: (0..modern.num_hidden_layers).map(layer).collect::<Result<_, _>>()?,
        final_norm: Some(tensors.layer_norm("final_norm", hidden, modern.norm_bias, epsilon)?),
        hidden_size: hidden,
        vocabulary: modern.vocab_size,
        longest: config.positions(modern.max_position_embeddings),
    })
}
