//! The steps that all kinds of models share while they are loaded: a folder to an encoder and its tokenizer.

use std::fs;

use candle_core::Device;
use crds::v1alpha1::Dtype;
use sha2::{Digest, Sha256};

use super::{ModelError, Weights, architecture, config::Config, folder::ModelFolder, transformer::Encoder};
use crate::tokenizer::{SpecialTokens, Tokenizer};

/// The transformer of a model folder, with its open weights: a head may still be read from them.
pub(super) struct LoadedTransformer {
    pub(super) config: Config,
    pub(super) weights: Weights,
    pub(super) encoder: Encoder,
    /// Whether sequences need special tokens.
    pub(super) special_tokens: SpecialTokens,
    architecture: &'static architecture::Architecture,
}

impl LoadedTransformer {
    /// Reads the encoder's configuration and weights.
    ///
    /// # Errors
    /// If the architecture is unknown, or its configuration or weights are invalid.
    pub(super) fn load(folder: &ModelFolder, dtype: Dtype, device: &Device) -> Result<Self, ModelError> {
        let config = folder.config()?;
        let architecture = architecture::find(&config)?;
        let weights = Weights::open(&folder.name, &folder.weights_files(&folder.encoder_dir)?, dtype, device)?;
        let encoder = (architecture.load)(&config, &weights)?;
        Ok(Self { config, weights, encoder, special_tokens: architecture.special_tokens, architecture })
    }

    /// Rejects tensors that neither the encoder nor a head has read.
    ///
    /// # Errors
    /// If a tensor was not read, except those of heads that the architecture ignores.
    pub(super) fn reject_unused(&self) -> Result<(), ModelError> {
        let architecture = self.architecture;
        self.weights.reject_unused(architecture.prefixes, architecture.probe, architecture.ignored)
    }
}

/// Opens the tokenizer of a folder and checks it against the encoder. Sequences are limited by `max_tokens`, by the folder
/// and by the encoder, whichever is lowest.
///
/// # Errors
/// If the tokenizer is missing or invalid, or has an id without a row in the word embedding.
pub(super) fn open_tokenizer(
    folder: &ModelFolder,
    encoder: &Encoder,
    max_tokens: Option<usize>,
    special_tokens: SpecialTokens,
) -> Result<Tokenizer, ModelError> {
    let file = folder.tokenizer()?;
    let limits = [max_tokens, folder.max_tokens()?];
    let max_tokens = limits.into_iter().flatten().fold(encoder.longest, usize::min);
    let tokenizer = Tokenizer::open(&file, max_tokens, special_tokens)
        .map_err(|source| ModelError::tokenizer(&folder.name, source))?;
    let (vocabulary, embedding) = (tokenizer.vocabulary(), encoder.vocabulary);
    if vocabulary > embedding {
        return Err(ModelError::Vocabulary { model: folder.name.clone(), file, tokenizer: vocabulary, embedding });
    }
    Ok(tokenizer)
}

/// The sha256 of a folder's `tokenizer.json`, in hexadecimal.
///
/// # Errors
/// If the file is missing or cannot be read.
pub(super) fn tokenizer_digest(folder: &ModelFolder) -> Result<String, ModelError> {
    let file = folder.tokenizer()?;
    let bytes = fs::read(&file);
    let bytes = bytes.map_err(|source| ModelError::Read { model: folder.name.clone(), file, source })?;
    Ok(hex::encode(Sha256::digest(bytes)))
}
