//! RoBERTa and XLM-RoBERTa (Liu et al., 2019; Conneau et al., 2019; `transformers/models/roberta/modeling_roberta.py`):
//! BERT whose positions begin behind the padding id.

use super::{
    bert,
    definition::{Architecture, Outline},
};
use crate::{
    model::{ModelError, Weights, config::Config, transformer::Encoder, weights::Tensors},
    tokenizer::SpecialTokens,
};

/// See the module.
pub const ARCHITECTURE: Architecture = Architecture {
    name: "RoBERTa, XLM-RoBERTa",
    model_types: &["roberta", "xlm-roberta", "camembert"],
    positions: None,
    prefixes: &["", "roberta."],
    probe: "embeddings.word_embeddings.weight",
    ignored: &["pooler.", "lm_head."],
    special_tokens: SpecialTokens::Required,
    outline,
    load,
};

fn outline(config: &Config) -> Result<Outline, ModelError> {
    bert::outline_of(config, Some(padding(config)))
}

fn padding(config: &Config) -> u32 {
    config.get("pad_token_id").as_u64().unwrap_or(1) as u32
}

fn load(config: &Config, weights: &Weights) -> Result<Encoder, ModelError> {
    let padding = padding(config);
    bert::encoder(config, &Tensors::within(weights, ARCHITECTURE.prefixes, ARCHITECTURE.probe), Some(padding))
}
