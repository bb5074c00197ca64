//! The steps that all kinds of models share while they are opened and loaded: a folder to a checked configuration and a
//! tokenizer, then to an encoder.

use candle_core::Device;
use crds::v1alpha1::Dtype;
use sha2::{Digest, Sha256};

use super::{
    ModelError, Weights,
    architecture::{self, Architecture, Outline},
    config::Config,
    folder::{Lengths, ModelFolder},
    transformer::Encoder,
    weights::natural_dtype,
};
use crate::{
    plan::ModelFiles,
    tokenizer::{MaxTokens, Pretrained, SpecialTokens, Tokenizer},
};

/// What is known of a model before its weights are read.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The settings files that were read.
    pub files: ModelFiles,
    /// The width of a dense vector, if the settings say it.
    pub dimensions: Option<usize>,
}

/// A transformer whose configuration was read and checked, and whose weights were not.
pub(super) struct OpenTransformer {
    pub(super) config: Config,
    pub(super) outline: Outline,
    /// Whether sequences need special tokens.
    pub(super) special_tokens: SpecialTokens,
    architecture: &'static Architecture,
}

impl OpenTransformer {
    /// Reads the encoder's configuration. The caller reads the fields of its head, then calls
    /// [`Config::reject_unknown`].
    ///
    /// # Errors
    /// If the architecture is unknown, or its configuration is invalid.
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, ModelError> {
        let config = folder.config()?;
        let architecture = architecture::find(&config)?;
        let outline = (architecture.outline)(&config)?;
        Ok(Self { config, outline, special_tokens: architecture.special_tokens, architecture })
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
        let lengths = settings.lengths(pretrained.max_length, positions.unwrap_or(self.outline.longest));
        let special = if settings.adds_special_tokens() { self.special_tokens } else { SpecialTokens::Never };
        with_limits(folder, pretrained, lengths, max_tokens, special, self.outline)
    }

    /// Loads the encoder, with the type `dtype` or the natural one of the device.
    ///
    /// # Errors
    /// If the weights are missing or invalid.
    pub(super) fn load(
        self,
        folder: &ModelFolder,
        dtype: Option<Dtype>,
        device: &Device,
    ) -> Result<LoadedTransformer, ModelError> {
        let Self { config, architecture, .. } = self;
        let dtype = dtype.unwrap_or_else(|| natural_dtype(device, config.saved_dtype()));
        let weights = Weights::open(&folder.files, &folder.weights_files(&folder.encoder_dir)?, dtype, device)?;
        let encoder = (architecture.load)(&config, &weights)?;
        Ok(LoadedTransformer { config, weights, encoder, dtype, architecture })
    }
}

/// The transformer of a model folder, with its open weights: a head may still be read from them.
pub(super) struct LoadedTransformer {
    pub(super) config: Config,
    pub(super) weights: Weights,
    pub(super) encoder: Encoder,
    pub(super) dtype: Dtype,
    architecture: &'static Architecture,
}

impl LoadedTransformer {
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
}

/// Opens the `tokenizer.json` of a folder without a transformer; its own truncation is the folder's limit. The table has its
/// rows checked once it is loaded ([`Tokenizer::with_rows`]).
///
/// # Errors
/// If the tokenizer is missing or invalid.
pub(super) fn bare_tokenizer(folder: &ModelFolder, max_tokens: Option<usize>) -> Result<Tokenizer, ModelError> {
    let error = |source| ModelError::tokenizer(&folder.name, source);
    let pretrained = Pretrained::of_file(&folder.tokenizer()?).map_err(error)?;
    let length = pretrained.max_length;
    let lengths = Lengths { document: length, query: length, pair: length };
    let unlimited = Outline { hidden_size: 0, vocabulary: usize::MAX, longest: usize::MAX };
    with_limits(folder, pretrained, lengths, max_tokens, SpecialTokens::Never, unlimited)
}

/// The tokenizer with the lowest of all limits.
fn with_limits(
    folder: &ModelFolder,
    pretrained: Pretrained,
    of_folder: Lengths,
    of_run: Option<usize>,
    special: SpecialTokens,
    encoder: Outline,
) -> Result<Tokenizer, ModelError> {
    let limit = |of_folder: Option<usize>| [of_run, of_folder].into_iter().flatten().fold(encoder.longest, usize::min);
    let Lengths { document, query, pair } = of_folder;
    let limits = MaxTokens { document: limit(document), query: limit(query), pair: limit(pair) };
    Tokenizer::new(pretrained, limits, special, encoder.vocabulary)
        .map_err(|source| ModelError::tokenizer(&folder.name, source))
}

/// The sha256 of a folder's `tokenizer.json`, in hexadecimal.
///
/// # Errors
/// If the file is missing or cannot be read.
pub(super) fn tokenizer_digest(folder: &ModelFolder) -> Result<String, ModelError> {
    Ok(hex::encode(Sha256::digest(folder.files.bytes(&folder.tokenizer()?)?)))
}
