//! What lies in a model folder, laid out as `sentence-transformers` saves it.
//!
//! `modules.json` names the modules: a transformer with `config.json`, `tokenizer.json` and the weights (in the
//! folder itself or one below), a pooling with its own `config.json`, and perhaps a normalisation. A folder without
//! `modules.json` is a bare encoder.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    bert::{self, BertConfig},
    error::ModelError,
    pooling::Pooling,
};

/// The weights file.
pub const WEIGHTS: &str = "model.safetensors";

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";

/// Extensions of files that are pickles, or hold one.
const PICKLES: [&str; 5] = ["bin", "ckpt", "pkl", "pt", "pth"];

/// Modules that are computed.
const MODULES: &[&str] = &["Transformer", "Pooling", "Normalize"];

/// Pooling modes that are computed, as `1_Pooling/config.json` names them.
const POOLING_MODES: &[&str] = &["cls", "mean"];

/// `model_max_length` of a tokenizer that has no limit is a number like 10³⁰.
const NO_LIMIT: f64 = 1e9;

/// A model folder whose configuration was read and found supported.
#[derive(Debug)]
pub struct ModelFolder {
    /// The model's name.
    pub name: String,
    /// The encoder's configuration.
    pub config: BertConfig,
    /// Whether the model ends in an L2 normalisation.
    pub normalize: bool,
    /// The longest sequence that every file of the folder allows, in tokens.
    pub max_tokens: usize,
    dir: PathBuf,
    transformer: PathBuf,
    pooling: Option<PathBuf>,
}

impl ModelFolder {
    /// Opens `dir` and reads its configuration. The weights and the tokenizer are not touched.
    pub fn open(name: &str, dir: &Path) -> Result<Self, ModelError> {
        if !dir.is_dir() {
            return Err(ModelError::FolderMissing { model: name.to_owned(), dir: dir.to_owned() });
        }
        let modules = modules(name, &dir.join("modules.json"))?;
        let path_of =
            |kind: &str| modules.iter().find(|module| module.kind() == kind).map(|module| dir.join(&module.path));
        let transformer = path_of("Transformer").unwrap_or_else(|| dir.to_owned());
        let config = encoder_config(name, &transformer.join(CONFIG))?;
        refuse_text_changes(name, dir, &transformer)?;
        Ok(Self {
            name: name.to_owned(),
            normalize: path_of("Normalize").is_some(),
            max_tokens: max_tokens(name, &transformer, &config)?,
            pooling: path_of("Pooling").map(|path| path.join(CONFIG)),
            dir: dir.to_owned(),
            transformer,
            config,
        })
    }

    /// The pooling that the folder prescribes.
    ///
    /// # Errors
    /// If it prescribes none, or one that is not supported.
    pub fn pooling(&self) -> Result<Pooling, ModelError> {
        let file = self
            .pooling
            .as_ref()
            .ok_or_else(|| ModelError::PoolingUnknown { model: self.name.clone(), dir: self.dir.clone() })?;
        let config: PoolingConfig = read_json(&self.name, file)?;
        let mode = config.mode();
        match mode.as_str() {
            "cls" => Ok(Pooling::Cls),
            "mean" => Ok(Pooling::Mean),
            _ => Err(unsupported(&self.name, file, "pooling mode", &mode, POOLING_MODES)),
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// If it is not there.
    pub fn tokenizer(&self) -> Result<PathBuf, ModelError> {
        let file = self.transformer.join(TOKENIZER);
        if file.is_file() { Ok(file) } else { Err(ModelError::FileMissing { model: self.name.clone(), file }) }
    }

    /// The weights.
    ///
    /// # Errors
    /// If there are none, or only a pickle.
    pub fn weights(&self) -> Result<PathBuf, ModelError> {
        let weights = self.transformer.join(WEIGHTS);
        if weights.is_file() {
            return Ok(weights);
        }
        let read_error = |source| ModelError::Read { model: self.name.clone(), file: self.transformer.clone(), source };
        let files: Vec<PathBuf> = fs::read_dir(&self.transformer)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
            .map_err(read_error)?;
        match files.into_iter().filter(|file| is_pickle(file)).min() {
            Some(file) => Err(ModelError::PickleRefused { model: self.name.clone(), file }),
            None => Err(ModelError::NoWeights { model: self.name.clone(), dir: self.transformer.clone() }),
        }
    }
}

/// A module of `modules.json`.
#[derive(Deserialize)]
struct Module {
    /// The path of a Python class, which has moved between versions; its last part has not.
    #[serde(rename = "type")]
    class: String,
    path: PathBuf,
}

impl Module {
    fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or(&self.class)
    }
}

fn modules(name: &str, file: &Path) -> Result<Vec<Module>, ModelError> {
    if !file.exists() {
        return Ok(Vec::new());
    }
    let modules: Vec<Module> = read_json(name, file)?;
    match modules.iter().find(|module| !MODULES.contains(&module.kind())) {
        Some(module) => Err(unsupported(name, file, "type", &module.class, MODULES)),
        None => Ok(modules),
    }
}

/// The fields of `config.json` that say which architecture it is.
#[derive(Deserialize)]
struct Architecture {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    is_decoder: bool,
}

fn encoder_config(name: &str, file: &Path) -> Result<BertConfig, ModelError> {
    let architecture: Architecture = read_json(name, file)?;
    let model_type = architecture.model_type.unwrap_or_default();
    let one_of = |field, found: &str, supported: &'static [&'static str]| {
        if supported.contains(&found) { Ok(()) } else { Err(unsupported(name, file, field, found, supported)) }
    };
    one_of("model_type", &model_type, bert::MODEL_TYPES)?;
    for found in &architecture.architectures {
        one_of("architectures", found, bert::ARCHITECTURES)?;
    }
    if architecture.is_decoder {
        return Err(unsupported(name, file, "is_decoder", "true", &["false"]));
    }
    let config: BertConfig = read_json(name, file)?;
    one_of("hidden_act", &config.hidden_act, bert::ACTIVATIONS)?;
    one_of("position_embedding_type", &config.position_embedding_type, bert::POSITION_EMBEDDING_TYPES)?;
    let heads = config.num_attention_heads;
    if heads == 0 || config.hidden_size == 0 || !config.hidden_size.is_multiple_of(heads) {
        let (model, file) = (name.to_owned(), file.to_owned());
        return Err(ModelError::Heads { model, file, hidden_size: config.hidden_size, heads });
    }
    Ok(config)
}

/// sentence-transformers would lower-case the text or put a prompt before it, where the folder says so. Vectors of
/// the text as it stands would be others.
fn refuse_text_changes(name: &str, dir: &Path, transformer: &Path) -> Result<(), ModelError> {
    #[derive(Default, Deserialize)]
    struct SentenceBertConfig {
        #[serde(default)]
        do_lower_case: bool,
    }
    #[derive(Default, Deserialize)]
    struct SentenceTransformersConfig {
        default_prompt_name: Option<String>,
    }
    let file = transformer.join("sentence_bert_config.json");
    if read_optional_json::<SentenceBertConfig>(name, &file)?.do_lower_case {
        return Err(unsupported(name, &file, "do_lower_case", "true", &["false"]));
    }
    let file = dir.join("config_sentence_transformers.json");
    match read_optional_json::<SentenceTransformersConfig>(name, &file)?.default_prompt_name {
        Some(prompt) => Err(unsupported(name, &file, "default_prompt_name", &prompt, &["null"])),
        None => Ok(()),
    }
}

fn max_tokens(name: &str, transformer: &Path, config: &BertConfig) -> Result<usize, ModelError> {
    #[derive(Default, Deserialize)]
    struct SentenceBertConfig {
        max_seq_length: Option<usize>,
    }
    #[derive(Default, Deserialize)]
    struct TokenizerConfig {
        model_max_length: Option<f64>,
    }
    let sentence: SentenceBertConfig = read_optional_json(name, &transformer.join("sentence_bert_config.json"))?;
    let tokenizer: TokenizerConfig = read_optional_json(name, &transformer.join("tokenizer_config.json"))?;
    let tokenizer = tokenizer.model_max_length.filter(|length| *length < NO_LIMIT).map(|length| length as usize);
    let limits = [sentence.max_seq_length, tokenizer];
    Ok(limits.into_iter().flatten().fold(config.max_position_embeddings, usize::min))
}

/// `1_Pooling/config.json`: either one `pooling_mode`, or a flag per mode.
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

impl PoolingConfig {
    /// The name of the mode, those of several joined by `+`.
    fn mode(self) -> String {
        self.pooling_mode.unwrap_or_else(|| {
            let on = self.others.iter().filter(|(_, value)| **value == serde_json::Value::Bool(true));
            let names: Vec<&str> = on
                .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
                .map(|mode| mode.trim_end_matches("_tokens").trim_end_matches("_token"))
                .collect();
            names.join("+")
        })
    }
}

fn is_pickle(file: &Path) -> bool {
    file.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| PICKLES.contains(&extension))
}

fn unsupported(
    name: &str,
    file: &Path,
    field: &'static str,
    found: &str,
    supported: &'static [&'static str],
) -> ModelError {
    ModelError::Unsupported { model: name.to_owned(), file: file.to_owned(), field, found: found.to_owned(), supported }
}

fn read_json<T: DeserializeOwned>(name: &str, file: &Path) -> Result<T, ModelError> {
    let (model, path) = (name.to_owned(), file.to_owned());
    match fs::read(file) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|source| ModelError::FileInvalid { model, file: path, source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ModelError::FileMissing { model, file: path }),
        Err(source) => Err(ModelError::Read { model, file: path, source }),
    }
}

fn read_optional_json<T: DeserializeOwned + Default>(name: &str, file: &Path) -> Result<T, ModelError> {
    if file.exists() { read_json(name, file) } else { Ok(T::default()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pooling_mode_is_read_in_the_old_and_the_new_form() {
        let cases = [
            (json!({"pooling_mode": "cls"}), "cls"),
            (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}), "cls"),
            (
                json!({"word_embedding_dimension": 384, "pooling_mode_mean_tokens": true, "include_prompt": true}),
                "mean",
            ),
            (json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}), "cls+mean"),
            (json!({"pooling_mode_weightedmean_tokens": true}), "weightedmean"),
            (json!({"pooling_mode_mean_tokens": false}), ""),
        ];
        for (config, mode) in cases {
            let parsed: PoolingConfig = serde_json::from_value(config.clone()).expect("a pooling configuration");
            assert_eq!(parsed.mode(), mode, "{config}");
        }
    }
}
