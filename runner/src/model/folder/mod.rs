//! A model folder as `sentence-transformers` saves it.
//!
//! [`modules`] reads `modules.json`, which lists the modules: a transformer with `config.json`, `tokenizer.json` and the
//! weights (in the folder itself or one below), a [`pooling`] with its own `config.json`, perhaps [`projection`]s and a
//! normalisation. [`chain`] says which of them contribute to the vector of a text. A folder without `modules.json` is a bare
//! encoder. [`prompts`] precede queries and documents, whose vectors are compared by a [`similarity`]; [`weights_files`]
//! finds the weights. Every file is read through [`files`], which rejects what is not known and records the digests.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crds::v1alpha1::Similarity;
use serde_json::{Map, Value};

use super::{
    config::Config,
    error::ModelError,
    files::{CONFIG, TOKENIZER},
};
use crate::{
    store::Fault,
    tokenizer::{Fields, TokenizerFiles},
};

mod chain;
mod files;
mod modules;
mod pooling;
mod projection;
mod prompts;
mod similarity;
mod transformer_settings;
mod weights_files;

pub use self::{
    chain::{Chain, Step},
    files::{Files, field_path, reject_pointer},
    modules::{Module, ModuleKind, Modules},
    pooling::FolderPooling,
    projection::{ProjectionConfig, activation_of_class},
    prompts::FolderPrompts,
    transformer_settings::{Lengths, Task, TransformerSettings},
};

/// The configuration of an adapter, which `transformers` adds to the weights beside it.
const ADAPTER: &str = "adapter_config.json";

/// A model folder whose configuration was read.
#[derive(Debug)]
pub struct ModelFolder {
    /// The model's name.
    pub name: String,
    /// The model folder.
    pub dir: PathBuf,
    /// The modules of `modules.json`.
    pub modules: Modules,
    /// The encoder's folder: the model folder, or one below.
    pub encoder_dir: PathBuf,
    /// The prompts of `config_sentence_transformers.json`.
    pub prompts: FolderPrompts,
    /// How the encoder's module is set up.
    pub settings: TransformerSettings,
    /// The files that were read.
    pub files: Files,
}

impl ModelFolder {
    /// Opens `dir` and reads its modules and prompts. The weights and the tokenizer are not read.
    ///
    /// # Errors
    /// If the folder does not exist, or its modules or prompts are invalid.
    pub fn open(name: &str, dir: &Path) -> Result<Self, ModelError> {
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => {}
            Err(source) if !matches!(Fault::of(&source), Fault::NotFound | Fault::WrongKind) => {
                return Err(ModelError::Read { model: name.to_owned(), file: dir.to_owned(), source });
            }
            _ => return Err(ModelError::FolderMissing { model: name.to_owned(), dir: dir.to_owned() }),
        }
        let files = Files::new(name, dir);
        let modules = Modules::read(&files, dir)?;
        let encoder = [ModuleKind::Transformer, ModuleKind::MlmTransformer, ModuleKind::StaticEmbedding]
            .into_iter()
            .find_map(|kind| modules.of_kind(kind).next());
        let encoder_dir = encoder.map_or_else(|| dir.to_owned(), |module| module.dir.clone());
        // A model with an adapter is not the model of its weights.
        for dir in [dir, &encoder_dir] {
            let adapter = dir.join(ADAPTER);
            if files.has(&adapter)? {
                return Err(ModelError::Adapter { model: name.to_owned(), file: adapter });
            }
        }
        let settings = match encoder.map(|module| module.kind) {
            None | Some(ModuleKind::StaticEmbedding) => TransformerSettings::of_bare_encoder(name, &encoder_dir),
            Some(kind) => TransformerSettings::read(&files, &encoder_dir, kind)?,
        };
        let prompts = FolderPrompts::read(&files, dir)?;
        Ok(Self { name: name.to_owned(), dir: dir.to_owned(), modules, encoder_dir, prompts, settings, files })
    }

    /// The encoder's configuration, with the arguments that the module sets.
    ///
    /// # Errors
    /// If it is missing or not JSON, or an argument is not implemented.
    pub fn config(&self) -> Result<Config, ModelError> {
        let file = self.encoder_dir.join(CONFIG);
        let json: Value = self.files.json(&file)?;
        let layers_left = self.settings.layers_left(&json);
        let config = Config::new(&self.name, &file, self.settings.configure(json)?);
        Ok(config.with_layers_left(layers_left).with_longest_asked(self.settings.longest_asked()))
    }

    /// The modules that contribute to the vector of a text; `pooled` says that the run sets the pooling.
    ///
    /// # Errors
    /// Same as [`Chain::of`].
    pub fn chain(&self, pooled: bool) -> Result<Chain, ModelError> {
        Chain::of(&self.files, &self.modules, pooled)
    }

    /// The pooling of the module in `dir`.
    ///
    /// # Errors
    /// If its configuration is missing, invalid or unsupported.
    pub fn pooling(&self, dir: &Path) -> Result<FolderPooling, ModelError> {
        pooling::pooling(&self.files, dir)
    }

    /// Checks that the SPLADE pooling, if the folder has one, is the maximum over the tokens of log(1 + relu(logit)).
    ///
    /// # Errors
    /// If the folder requests another pooling.
    pub fn expect_splade_max(&self) -> Result<(), ModelError> {
        let mut modules = self.modules.of_kind(ModuleKind::SpladePooling);
        modules.try_for_each(|module| pooling::expect_splade_max(&self.files, module))
    }

    /// The similarity that the folder names, one of those that are `supported`; `None` if it names none.
    ///
    /// # Errors
    /// If `config_sentence_transformers.json` is invalid, or names another function.
    pub fn similarity(&self, supported: &[Similarity]) -> Result<Option<Similarity>, ModelError> {
        similarity::similarity(&self.files, &self.dir, supported)
    }

    /// The path of the tokenizer.
    ///
    /// # Errors
    /// If the file does not exist.
    pub fn tokenizer(&self) -> Result<PathBuf, ModelError> {
        let file = self.encoder_dir.join(TOKENIZER);
        // Recorded with its digest.
        self.files.bytes(&file)?;
        Ok(file)
    }

    /// The files of the tokenizer, of a model with the configuration `config`.
    ///
    /// # Errors
    /// If the tokenizer is missing, or a file is not JSON.
    pub fn tokenizer_files(&self, config: &Config) -> Result<TokenizerFiles, ModelError> {
        let fields = |name: &str| -> Result<Fields, ModelError> {
            let file = self.encoder_dir.join(name);
            let fields: Map<String, Value> = self.files.optional_json(&file)?;
            Ok(Fields::new(&file, fields))
        };
        Ok(TokenizerFiles {
            tokenizer: self.tokenizer()?,
            config: fields("tokenizer_config.json")?,
            special_tokens_map: fields("special_tokens_map.json")?,
            added_tokens: fields("added_tokens.json")?,
            arguments: self.settings.tokenizer.clone(),
            model_type: config.model_type().to_owned(),
            model_class: config.get("tokenizer_class").as_str().map(ToOwned::to_owned),
        })
    }

    /// The weights files of a module's folder.
    ///
    /// # Errors
    /// If there are none, or only a pickle.
    pub fn weights_files(&self, dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
        weights_files::weights_files(&self.files, dir)
    }
}
