//! BERT (Devlin et al., 2018; `transformers/models/bert/modeling_bert.py`): learned positions, norms after each sum.

use serde::Deserialize;

use super::definition::{Architecture, Outline};
use crate::{
    model::{
        ModelError, Weights,
        config::Config,
        transformer::{Embeddings, Encoder, Layer, Norms, Positions},
        weights::Tensors,
    },
    ops::{Activation, AttentionSpan, FeedForward, Gate, Heads, Linear, SelfAttention},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "BERT",
    model_types: &["bert"],
    positions: None,
    prefixes: &["", "bert."],
    probe: "embeddings.word_embeddings.weight",
    ignored: &["pooler.", "cls."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

/// The part of BERT's `config.json` that determines the encoder. What is optional has the default of
/// `transformers.BertConfig`.
#[derive(Deserialize)]
struct BertConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "gelu")]
    hidden_act: String,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f64,
    #[serde(default = "absolute")]
    position_embedding_type: String,
    #[serde(default)]
    is_decoder: bool,
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn two() -> usize {
    2
}

fn epsilon() -> f64 {
    1e-12
}

fn absolute() -> String {
    "absolute".to_owned()
}

fn outline(config: &Config) -> Result<Outline, ModelError> {
    outline_of(config, None)
}

/// The outline of BERT; `padding` as in [`encoder`].
pub(super) fn outline_of(config: &Config, padding: Option<u32>) -> Result<Outline, ModelError> {
    let (bert, ..) = settings(config)?;
    Ok(Outline {
        hidden_size: bert.hidden_size,
        vocabulary: bert.vocab_size,
        longest: bert.max_position_embeddings.saturating_sub(first_position(padding)),
    })
}

fn settings(config: &Config) -> Result<(BertConfig, Heads, Activation), ModelError> {
    let bert: BertConfig = config.read()?;
    config.expect("position_embedding_type", &bert.position_embedding_type, &["absolute"])?;
    config.expect("is_decoder", &bert.is_decoder.to_string(), &["false"])?;
    let activation = config.activation("hidden_act", &bert.hidden_act)?;
    let heads = Heads::equal(bert.num_attention_heads, config.head_width(bert.hidden_size, bert.num_attention_heads)?);
    Ok((bert, heads, activation))
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    encoder(config, &Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe), None)
}

/// The encoder of BERT; with a `padding` id, positions begin behind it, as RoBERTa has them.
pub(super) fn encoder(config: &Config, tensors: &Tensors, padding: Option<u32>) -> Result<Encoder, ModelError> {
    let (bert, heads, activation) = settings(config)?;
    Ok(Encoder {
        embeddings: embeddings(&bert, padding, &tensors.module("embeddings"))?,
        layers: (0..bert.num_hidden_layers)
            .map(|index| layer(&bert, heads, activation, &tensors.module(format_args!("encoder.layer.{index}"))))
            .collect::<Result<_, _>>()?,
        final_norm: None,
        hidden_size: bert.hidden_size,
        vocabulary: bert.vocab_size,
        longest: bert.max_position_embeddings.saturating_sub(first_position(padding)),
    })
}

fn first_position(padding: Option<u32>) -> usize {
    padding.map_or(0, |padding| padding as usize + 1)
}

/// Attention of all tokens to all, without positions of its own.
pub(super) fn attention(qkv: Linear, out: Linear, heads: Heads) -> SelfAttention {
    SelfAttention {
        qkv,
        out,
        heads,
        scale: 1.0 / (heads.width as f32).sqrt(),
        span: AttentionSpan::Full,
        head_norms: None,
        rotary: None,
        bias: None,
    }
}

fn embeddings(bert: &BertConfig, padding: Option<u32>, tensors: &Tensors) -> Result<Embeddings, ModelError> {
    let width = bert.hidden_size;
    let positions = tensors.table("position_embeddings", bert.max_position_embeddings, width)?;
    Ok(Embeddings {
        positions: Some(Positions { table: positions, offset: first_position(padding), skipped: padding }),
        types: Some(tensors.table("token_type_embeddings", bert.type_vocab_size, width)?),
        norm: Some(tensors.layer_norm("LayerNorm", width, true, bert.layer_norm_eps)?),
        ..Embeddings::of_words(tensors.table("word_embeddings", bert.vocab_size, width)?)
    })
}

fn layer(bert: &BertConfig, heads: Heads, activation: Activation, tensors: &Tensors) -> Result<Layer, ModelError> {
    let (hidden, inner) = (bert.hidden_size, bert.intermediate_size);
    let parts = ["query", "key", "value"].map(|part| (part, hidden));
    Ok(Layer {
        attention: attention(
            tensors.module("attention.self").stacked(&parts, hidden, true)?,
            tensors.linear("attention.output.dense", hidden, hidden, true)?,
            heads,
        ),
        feed_forward: FeedForward {
            up: tensors.linear("intermediate.dense", hidden, inner, true)?,
            gate: Gate::None,
            activation,
            down: tensors.linear("output.dense", inner, hidden, true)?,
        },
        norms: Norms::Post {
            attention: tensors.layer_norm("attention.output.LayerNorm", hidden, true, bert.layer_norm_eps)?,
            feed_forward: tensors.layer_norm("output.LayerNorm", hidden, true, bert.layer_norm_eps)?,
        },
    })
}
