//! What an architecture consists of.

use super::super::{config::Config, error::ModelError, transformer::Encoder, weights::Weights};
use crate::tokenizer::SpecialTokens;

/// What a configuration says about an encoder before its weights are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The width of a hidden state.
    pub hidden_size: usize,
    /// Rows of the word embedding.
    pub vocabulary: usize,
    /// The longest supported sequence, in tokens.
    pub longest: usize,
}

/// An architecture that can be loaded.
pub struct Architecture {
    /// Its common name.
    pub name: &'static str,
    /// The `model_type`s of `config.json`.
    pub model_types: &'static [&'static str],
    /// The `position_embedding_type` that distinguishes it from another architecture of the same `model_type`.
    pub positions: Option<&'static str>,
    /// Prefixes of the tensor names of the encoder in the files of some publishers.
    pub prefixes: &'static [&'static str],
    /// A tensor that every encoder of the architecture has; it identifies the prefix that a file uses.
    pub probe: &'static str,
    /// Prefixes of the names of tensors that do not belong to the encoder: heads that a dense model does not use.
    pub ignored: &'static [&'static str],
    /// Whether its sequences need special tokens around the text.
    pub special_tokens: SpecialTokens,
    /// Reads and checks the configuration alone.
    pub outline: fn(&Config) -> Result<Outline, ModelError>,
    /// Reads the configuration and builds the encoder.
    pub load: fn(&Config, &Weights) -> Result<Encoder, ModelError>,
}
