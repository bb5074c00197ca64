//! The steps that all kinds of models share while they are opened and loaded: a folder to a checked configuration and a
//! tokenizer, then to an encoder.

use candle_core::Device;
use crds::v1alpha1::Dtype;

use super::{
    ModelError, Weights,
    architecture::{self, Architecture, Outline},
    config::Config,
    folder::ModelFolder,
    transformer::Encoder,
    weights::natural_dtype,
};
use crate::{
    plan::ModelFiles,
    tokenizer::{SpecialTokens, Tokenizer},
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
    /// If a tensor was not read, except those of heads that the architecture ignores.
    pub(super) fn reject_unused(&self) -> Result<(), ModelError> {
        let architecture = self.architecture;
        self.weights.reject_unused(architecture.prefixes, architecture.probe, architecture.ignored)
    }
}

/// Opens the tokenizer of a folder. Sequences are limited by `max_tokens`, by the folder and by `longest`, whichever is
/// lowest.
///
/// # Errors
/// If the tokenizer is missing or invalid.
pub(super) fn open_tokenizer(
    folder: &ModelFolder,
    longest: usize,
    max_tokens: Option<usize>,
    special_tokens: SpecialTokens,
) -> Result<Tokenizer, ModelError> {
    let file = folder.tokenizer()?;
    // Recorded with its digest.
    folder.files.bytes(&file)?;
    let limits = [max_tokens, folder.max_tokens()?];
    let max_tokens = limits.into_iter().flatten().fold(longest, usize::min);
    Tokenizer::open(&file, max_tokens, special_tokens).map_err(|source| ModelError::tokenizer(&folder.name, source))
}

/// Checks that every id of the tokenizer has one of the `rows` of the word embedding.
///
/// # Errors
/// If an id has none.
pub(super) fn check_vocabulary(folder: &ModelFolder, tokenizer: &Tokenizer, rows: usize) -> Result<(), ModelError> {
    let vocabulary = tokenizer.vocabulary();
    if vocabulary > rows {
        let (model, file) = (folder.name.clone(), folder.tokenizer()?);
        return Err(ModelError::Vocabulary { model, file, tokenizer: vocabulary, embedding: rows });
    }
    Ok(())
}
