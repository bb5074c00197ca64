//! The steps that all kinds of models share while they are loaded: a folder to an encoder and its tokenizer.

use candle_core::Device;
use crds::v1alpha1::Dtype;

use super::{
    ModelError, Weights, architecture,
    config::Config,
    folder::{Lengths, ModelFolder},
    transformer::Encoder,
};
use crate::tokenizer::{MaxTokens, Pretrained, SpecialTokens, Tokenizer};

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
    /// If a tensor was not read, except those of heads that the architecture ignores, and of layers that the folder leaves out.
    pub(super) fn reject_unused(&self) -> Result<(), ModelError> {
        let architecture = self.architecture;
        if let Some(left) = self.config.layers_left() {
            self.weights.leave_out_layers(left);
        }
        self.weights.reject_unused(architecture.prefixes, architecture.probe, architecture.ignored)
    }

    /// Opens the tokenizer of the folder. Sequences are limited by the run's `max_tokens`, by the folder and by the encoder,
    /// whichever is lowest.
    ///
    /// # Errors
    /// If the tokenizer is missing or invalid, or its files have settings that are not implemented.
    pub(super) fn tokenizer(&self, folder: &ModelFolder, max_tokens: Option<usize>) -> Result<Tokenizer, ModelError> {
        let error = |source| ModelError::tokenizer(&folder.name, source);
        let settings = &folder.settings;
        let mut pretrained = Pretrained::of_folder(&folder.tokenizer_files(&self.config)?).map_err(error)?;
        if settings.lower_case {
            pretrained.lower_case().map_err(error)?;
        }
        let positions = ["max_position_embeddings", "n_positions"];
        let positions = positions.iter().find_map(|field| self.config.get(field).as_u64());
        let positions = positions.and_then(|positions| usize::try_from(positions).ok());
        let lengths = settings.lengths(pretrained.max_length, positions.unwrap_or(self.encoder.longest));
        let special = if settings.adds_special_tokens() { self.special_tokens } else { SpecialTokens::Never };
        with_limits(folder, pretrained, lengths, max_tokens, special, &self.encoder)
    }
}

/// Opens the `tokenizer.json` of a folder without a transformer; its own truncation is the folder's limit.
///
/// # Errors
/// If the tokenizer is missing or invalid.
pub(super) fn bare_tokenizer(
    folder: &ModelFolder,
    encoder: &Encoder,
    max_tokens: Option<usize>,
) -> Result<Tokenizer, ModelError> {
    let error = |source| ModelError::tokenizer(&folder.name, source);
    let pretrained = Pretrained::of_file(&folder.tokenizer()?).map_err(error)?;
    let length = pretrained.max_length;
    let lengths = Lengths { document: length, query: length, pair: length };
    with_limits(folder, pretrained, lengths, max_tokens, SpecialTokens::Never, encoder)
}

/// The tokenizer with the lowest of all limits.
fn with_limits(
    folder: &ModelFolder,
    pretrained: Pretrained,
    of_folder: Lengths,
    of_run: Option<usize>,
    special: SpecialTokens,
    encoder: &Encoder,
) -> Result<Tokenizer, ModelError> {
    let limit = |of_folder: Option<usize>| [of_run, of_folder].into_iter().flatten().fold(encoder.longest, usize::min);
    let Lengths { document, query, pair } = of_folder;
    let limits = MaxTokens { document: limit(document), query: limit(query), pair: limit(pair) };
    Tokenizer::new(pretrained, limits, special, encoder.vocabulary)
        .map_err(|source| ModelError::tokenizer(&folder.name, source))
}
