//! A model folder as `sentence-transformers` saves it.
//!
//! [`modules`] reads `modules.json`, which lists the modules: a transformer with `config.json`, `tokenizer.json` and the
//! weights (in the folder itself or one below), a [`pooling`] with its own `config.json`, perhaps projections and a
//! normalisation. A folder without `modules.json` is a bare encoder. [`prompts`] precede queries and documents;
//! [`weights_files`] finds the weights, and [`json`] reads every configuration file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    config::Config,
    error::ModelError,
    files::{CONFIG, TOKENIZER},
};
use crate::{ops::Pooling, store::Fault};

mod json;
mod modules;
mod pooling;
mod prompts;
mod weights_files;

use self::json::is_file;
pub(super) use self::json::read_json;
pub(super) use self::json::read_optional_json;
pub use self::{
    modules::{Module, ModuleKind, Modules},
    prompts::FolderPrompts,
};

/// Tokenizers without a limit have a `model_max_length` such as 10³⁰: lengths from this one on are no limit.
const UNLIMITED_LENGTH: f64 = 1e9;

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
        let modules = Modules::read(name, dir)?;
        let encoder_dir = [ModuleKind::Transformer, ModuleKind::MlmTransformer, ModuleKind::StaticEmbedding]
            .into_iter()
            .find_map(|kind| modules.of_kind(kind).next())
            .map_or_else(|| dir.to_owned(), |module| module.dir.clone());
        let prompts = FolderPrompts::read(name, dir)?;
        Ok(Self { name: name.to_owned(), dir: dir.to_owned(), modules, encoder_dir, prompts })
    }

    /// The encoder's configuration.
    ///
    /// # Errors
    /// If it is missing or not JSON.
    pub fn config(&self) -> Result<Config, ModelError> {
        let file = self.encoder_dir.join(CONFIG);
        Ok(Config::new(&self.name, &file, read_json(&self.name, &file)?))
    }

    /// The pooling that the folder prescribes.
    ///
    /// # Errors
    /// If it prescribes none, or an unsupported one.
    pub fn pooling(&self) -> Result<Pooling, ModelError> {
        let module = self.modules.of_kind(ModuleKind::Pooling).next();
        let module =
            module.ok_or_else(|| ModelError::PoolingUnknown { model: self.name.clone(), dir: self.dir.clone() })?;
        pooling::pooling(&self.name, module)
    }

    /// Whether the tokens of a prompt are pooled with those of the text.
    ///
    /// # Errors
    /// If the pooling's configuration is invalid.
    pub fn pools_prompt(&self) -> Result<bool, ModelError> {
        let module = self.modules.of_kind(ModuleKind::Pooling).next();
        module.map_or(Ok(true), |module| pooling::includes_prompt(&self.name, module))
    }

    /// Checks that the SPLADE pooling, if the folder has one, is the maximum over the tokens of log(1 + relu(logit)).
    ///
    /// # Errors
    /// If the folder requests another pooling.
    pub fn expect_splade_max(&self) -> Result<(), ModelError> {
        let mut modules = self.modules.of_kind(ModuleKind::SpladePooling);
        modules.try_for_each(|module| pooling::expect_splade_max(&self.name, module))
    }

    /// Whether the model expects texts in lower case.
    ///
    /// # Errors
    /// If `sentence_bert_config.json` is invalid.
    pub fn lower_case(&self) -> Result<bool, ModelError> {
        #[derive(Default, Deserialize)]
        struct SentenceBertConfig {
            #[serde(default)]
            do_lower_case: bool,
        }
        Ok(self.read_optional::<SentenceBertConfig>("sentence_bert_config.json")?.do_lower_case)
    }

    /// The path of the tokenizer.
    ///
    /// # Errors
    /// If the file does not exist.
    pub fn tokenizer(&self) -> Result<PathBuf, ModelError> {
        let file = self.encoder_dir.join(TOKENIZER);
        if is_file(&self.name, &file)? {
            return Ok(file);
        }
        Err(ModelError::FileMissing { model: self.name.clone(), file })
    }

    /// The longest sequence that the folder's files allow, in tokens; `None` if they set no limit.
    ///
    /// # Errors
    /// If a file is invalid.
    pub fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        #[derive(Default, Deserialize)]
        struct SentenceBertConfig {
            max_seq_length: Option<usize>,
        }
        #[derive(Default, Deserialize)]
        struct TokenizerConfig {
            model_max_length: Option<f64>,
        }
        let sentence_bert: SentenceBertConfig = self.read_optional("sentence_bert_config.json")?;
        let tokenizer: TokenizerConfig = self.read_optional("tokenizer_config.json")?;
        let of_tokenizer = tokenizer.model_max_length.filter(|length| *length < UNLIMITED_LENGTH);
        let limits = [sentence_bert.max_seq_length, of_tokenizer.map(|length| length as usize)];
        Ok(limits.into_iter().flatten().min())
    }

    /// The weights files of a module's folder.
    ///
    /// # Errors
    /// If there are none, or only a pickle.
    pub fn weights_files(&self, dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
        weights_files::weights_files(&self.name, dir)
    }

    /// Reads an optional file of the encoder's folder.
    fn read_optional<T: DeserializeOwned + Default>(&self, file: &str) -> Result<T, ModelError> {
        read_optional_json(&self.name, &self.encoder_dir.join(file))
    }
}
