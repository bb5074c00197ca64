//! What lies in a model folder, laid out as `sentence-transformers` saves it.
//!
//! `modules.json` names the modules: a transformer with `config.json`, `tokenizer.json` and the weights (in the
//! folder itself or one below), a pooling with its own `config.json`, perhaps projections and a normalisation. A folder
//! without `modules.json` is a bare encoder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    config::Config,
    error::ModelError,
    files::{CONFIG, TOKENIZER, WEIGHTS, WEIGHTS_INDEX},
};
use crate::ops::Pooling;

/// Extensions of files that are pickles, or hold one.
const PICKLES: [&str; 5] = ["bin", "ckpt", "pkl", "pt", "pth"];

/// Names of the prompt for a document, in the order of `SentenceTransformer.encode_document`.
const DOCUMENT_PROMPTS: [&str; 3] = ["document", "passage", "corpus"];

/// `model_max_length` of a tokenizer that has no limit is a number like 10³⁰.
const NO_LIMIT: f64 = 1e9;

/// A module of `modules.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// An encoder.
    Transformer,
    /// An embedding table as an encoder of its own.
    StaticEmbedding,
    /// Token vectors to one vector.
    Pooling,
    /// A projection of the vector.
    Dense,
    /// The vector scaled to length 1.
    Normalize,
    /// An encoder with the head of a masked language model.
    MlmTransformer,
    /// The head's logits to one sparse vector.
    SpladePooling,
}

impl ModuleKind {
    /// The last part of the Python classes' paths, which have moved between versions.
    const NAMES: [(&str, Self); 7] = [
        ("Transformer", Self::Transformer),
        ("StaticEmbedding", Self::StaticEmbedding),
        ("Pooling", Self::Pooling),
        ("Dense", Self::Dense),
        ("Normalize", Self::Normalize),
        ("MLMTransformer", Self::MlmTransformer),
        ("SpladePooling", Self::SpladePooling),
    ];
}

/// A module and its folder.
#[derive(Clone, Debug)]
pub struct Module {
    /// What it is.
    pub kind: ModuleKind,
    /// Its folder.
    pub dir: PathBuf,
}

/// A model folder whose configuration was read.
#[derive(Debug)]
pub struct ModelFolder {
    /// The model's name.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// The modules in their order; none in a bare encoder.
    pub modules: Vec<Module>,
    /// The folder of the encoder.
    pub encoder: PathBuf,
    /// The prompts of `config_sentence_transformers.json`.
    pub prompts: FolderPrompts,
}

impl ModelFolder {
    /// Opens `dir` and reads its list of modules. The weights and the tokenizer are not touched.
    pub fn open(name: &str, dir: &Path) -> Result<Self, ModelError> {
        if !dir.is_dir() {
            return Err(ModelError::FolderMissing { model: name.to_owned(), dir: dir.to_owned() });
        }
        let modules = modules(name, dir)?;
        let of_encoder = [ModuleKind::Transformer, ModuleKind::MlmTransformer, ModuleKind::StaticEmbedding].into_iter();
        let encoder = of_encoder
            .filter_map(|kind| modules.iter().find(|module| module.kind == kind))
            .map(|module| module.dir.clone())
            .next()
            .unwrap_or_else(|| dir.to_owned());
        let file = dir.join("config_sentence_transformers.json");
        let prompts: FolderPrompts = read_optional_json(name, &file)?;
        if let Some(unknown) = prompts.unknown_default() {
            let known: Vec<&str> = prompts.prompts.keys().map(String::as_str).collect();
            return Err(ModelError::unsupported(name, &file, "default_prompt_name", unknown, &known));
        }
        Ok(Self { name: name.to_owned(), dir: dir.to_owned(), modules, encoder, prompts })
    }

    /// Refuses modules that are not, in this order, the `encoder`, then as many of the `others` as there are: each at most
    /// once but for projections. A folder without a list of modules is a bare encoder.
    ///
    /// # Errors
    /// If there is another module, or one in another place: it would be computed otherwise than its folder says.
    pub fn expect_chain(&self, encoder: &[ModuleKind], others: &[ModuleKind]) -> Result<(), ModelError> {
        let mut kinds = self.modules.iter().map(|module| module.kind).peekable();
        let mut fits = self.modules.is_empty() || kinds.next().is_some_and(|kind| encoder.contains(&kind));
        for other in others {
            // Only projections may follow one another.
            while kinds.next_if_eq(other).is_some() && *other == ModuleKind::Dense {}
        }
        fits &= kinds.next().is_none();
        if fits {
            return Ok(());
        }
        let names = |kinds: &[ModuleKind], between: &str| {
            let name =
                |kind: &ModuleKind| ModuleKind::NAMES.iter().find(|(_, other)| other == kind).map(|(name, _)| *name);
            kinds.iter().filter_map(name).collect::<Vec<_>>().join(between)
        };
        let found: Vec<ModuleKind> = self.modules.iter().map(|module| module.kind).collect();
        let supported = format!("{}, then {} in this order", names(encoder, " or "), names(others, ", "));
        let file = self.dir.join("modules.json");
        Err(ModelError::unsupported(&self.name, &file, "type", &names(&found, ", "), &[&supported]))
    }

    /// Refuses a SPLADE pooling that is not the maximum over the tokens of log(1 + relu(logit)).
    ///
    /// # Errors
    /// If the folder's configuration asks for another one.
    pub fn expect_splade_max(&self) -> Result<(), ModelError> {
        #[derive(Default, Deserialize)]
        struct SpladeConfig {
            pooling_strategy: Option<String>,
            activation_function: Option<String>,
        }
        for module in self.modules(ModuleKind::SpladePooling) {
            let file = module.dir.join(CONFIG);
            let config: SpladeConfig = read_optional_json(&self.name, &file)?;
            for (field, found, only) in [
                ("pooling_strategy", config.pooling_strategy, "max"),
                ("activation_function", config.activation_function, "relu"),
            ] {
                if let Some(found) = found.filter(|found| found != only) {
                    return Err(ModelError::unsupported(&self.name, &file, field, &found, &[only]));
                }
            }
        }
        Ok(())
    }

    /// The modules of one kind, in their order.
    pub fn modules(&self, kind: ModuleKind) -> impl Iterator<Item = &Module> {
        self.modules.iter().filter(move |module| module.kind == kind)
    }

    /// The encoder's configuration.
    ///
    /// # Errors
    /// If it is missing or no JSON.
    pub fn config(&self) -> Result<Config, ModelError> {
        let file = self.encoder.join(CONFIG);
        Ok(Config::new(&self.name, &file, read_json(&self.name, &file)?))
    }

    /// The pooling that the folder prescribes.
    ///
    /// # Errors
    /// If it prescribes none, or one that is not supported.
    pub fn pooling(&self) -> Result<Pooling, ModelError> {
        let module = self
            .modules(ModuleKind::Pooling)
            .next()
            .ok_or_else(|| ModelError::PoolingUnknown { model: self.name.clone(), dir: self.dir.clone() })?;
        let file = module.dir.join(CONFIG);
        let config: PoolingConfig = read_json(&self.name, &file)?;
        let mode = config.mode();
        let known = POOLING_MODES.iter().find(|(name, _)| *name == mode);
        known.map(|(_, pooling)| *pooling).ok_or_else(|| {
            ModelError::unsupported(&self.name, &file, "pooling mode", &mode, &POOLING_MODES.map(|(name, _)| name))
        })
    }

    /// Whether the tokens of a prompt are pooled with those of the text.
    ///
    /// # Errors
    /// If the pooling's configuration is not valid.
    pub fn pools_prompt(&self) -> Result<bool, ModelError> {
        match self.modules(ModuleKind::Pooling).next() {
            Some(module) => Ok(read_json::<PoolingConfig>(&self.name, &module.dir.join(CONFIG))?.include_prompt),
            None => Ok(true),
        }
    }

    /// Whether the model wants texts in lower case.
    pub fn lower_case(&self) -> Result<bool, ModelError> {
        #[derive(Default, Deserialize)]
        struct SentenceBertConfig {
            #[serde(default)]
            do_lower_case: bool,
        }
        let file = self.encoder.join("sentence_bert_config.json");
        Ok(read_optional_json::<SentenceBertConfig>(&self.name, &file)?.do_lower_case)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// If it is not there.
    pub fn tokenizer(&self) -> Result<PathBuf, ModelError> {
        let file = self.encoder.join(TOKENIZER);
        if file.is_file() { Ok(file) } else { Err(ModelError::FileMissing { model: self.name.clone(), file }) }
    }

    /// The longest sequence that the folder's files allow, in tokens; none where they say nothing.
    pub fn max_tokens(&self) -> Result<Option<usize>, ModelError> {
        #[derive(Default, Deserialize)]
        struct SentenceBertConfig {
            max_seq_length: Option<usize>,
        }
        #[derive(Default, Deserialize)]
        struct TokenizerConfig {
            model_max_length: Option<f64>,
        }
        let read = |file: &str| self.encoder.join(file);
        let sentence: SentenceBertConfig = read_optional_json(&self.name, &read("sentence_bert_config.json"))?;
        let tokenizer: TokenizerConfig = read_optional_json(&self.name, &read("tokenizer_config.json"))?;
        let tokenizer = tokenizer.model_max_length.filter(|length| *length < NO_LIMIT).map(|length| length as usize);
        Ok([sentence.max_seq_length, tokenizer].into_iter().flatten().min())
    }

    /// The weights files of a module's folder.
    ///
    /// # Errors
    /// If there are none, or only a pickle.
    pub fn weights(&self, dir: &Path) -> Result<Vec<PathBuf>, ModelError> {
        let weights = dir.join(WEIGHTS);
        if weights.is_file() {
            return Ok(vec![weights]);
        }
        let index = dir.join(WEIGHTS_INDEX);
        if index.is_file() {
            return self.weights_of_index(dir, &index);
        }
        let read_error = |source| ModelError::Read { model: self.name.clone(), file: dir.to_owned(), source };
        let files: Vec<PathBuf> = fs::read_dir(dir)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>())
            .map_err(read_error)?;
        match files.into_iter().filter(|file| is_pickle(file)).min() {
            Some(file) => Err(ModelError::PickleRefused { model: self.name.clone(), file }),
            None => Err(ModelError::NoWeights { model: self.name.clone(), dir: dir.to_owned() }),
        }
    }

    fn weights_of_index(&self, dir: &Path, index: &Path) -> Result<Vec<PathBuf>, ModelError> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let parsed: Index = read_json(&self.name, index)?;
        let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
        let files = names.iter().map(|name| {
            let file = dir.join(name);
            let plain = Path::new(name).file_name().is_some_and(|file_name| file_name == name.as_str());
            match (plain, is_pickle(&file), file.is_file()) {
                (true, false, true) => Ok(file),
                (true, true, _) => Err(ModelError::PickleRefused { model: self.name.clone(), file }),
                (true, false, false) => Err(ModelError::FileMissing { model: self.name.clone(), file }),
                (false, ..) => Err(ModelError::unsupported(
                    &self.name,
                    index,
                    "weight_map",
                    name,
                    &["the name of a file beside it"],
                )),
            }
        });
        files.collect()
    }
}

fn modules(name: &str, dir: &Path) -> Result<Vec<Module>, ModelError> {
    #[derive(Deserialize)]
    struct Listed {
        #[serde(rename = "type")]
        class: String,
        path: PathBuf,
    }
    let file = dir.join("modules.json");
    if !file.exists() {
        return Ok(Vec::new());
    }
    let listed: Vec<Listed> = read_json(name, &file)?;
    let modules = listed.into_iter().map(|listed| {
        let class = listed.class.rsplit('.').next().unwrap_or(&listed.class);
        let kind = ModuleKind::NAMES.iter().find(|(known, _)| *known == class).map(|(_, kind)| *kind);
        let kind = kind.ok_or_else(|| {
            ModelError::unsupported(name, &file, "type", &listed.class, &ModuleKind::NAMES.map(|(known, _)| known))
        })?;
        if !listed.path.components().all(|part| matches!(part, std::path::Component::Normal(_))) {
            let path = listed.path.display().to_string();
            return Err(ModelError::unsupported(name, &file, "path", &path, &["a folder below the model's"]));
        }
        Ok(Module { kind, dir: dir.join(listed.path) })
    });
    modules.collect()
}

/// The prompts of `config_sentence_transformers.json`.
#[derive(Debug, Default, Deserialize)]
pub struct FolderPrompts {
    #[serde(default)]
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

impl FolderPrompts {
    /// What stands before a document, as `SentenceTransformer.encode_document` chooses it.
    pub fn document(&self) -> Option<&str> {
        self.first(&DOCUMENT_PROMPTS)
    }

    /// What stands before a query, as `SentenceTransformer.encode_query` chooses it.
    pub fn query(&self) -> Option<&str> {
        self.first(&["query"])
    }

    /// The name of a default prompt that is not among the prompts. The names of the two sides always are, if without a
    /// text.
    fn unknown_default(&self) -> Option<&str> {
        let default = self.default_prompt_name.as_deref();
        default.filter(|name| !self.prompts.contains_key(*name) && !["query", "document"].contains(name))
    }

    fn first(&self, names: &[&str]) -> Option<&str> {
        let names = names.iter().copied().filter(|name| self.prompts.contains_key(*name));
        let name = names.chain(self.default_prompt_name.as_deref()).next()?;
        self.prompts.get(name)?.as_deref().filter(|prompt| !prompt.is_empty())
    }
}

/// Pooling modes, as `1_Pooling/config.json` names them.
const POOLING_MODES: [(&str, Pooling); 6] = [
    ("cls", Pooling::Cls),
    ("mean", Pooling::Mean),
    ("lasttoken", Pooling::LastToken),
    ("max", Pooling::Max),
    ("weightedmean", Pooling::WeightedMean),
    ("mean_sqrt_len", Pooling::MeanSqrtLength),
];

/// `1_Pooling/config.json`: either one `pooling_mode`, or a flag per mode.
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    #[serde(default = "yes")]
    include_prompt: bool,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

fn yes() -> bool {
    true
}

impl PoolingConfig {
    /// The name of the mode, those of several joined by `+`.
    fn mode(self) -> String {
        self.pooling_mode.unwrap_or_else(|| {
            let on = self.others.iter().filter(|(_, value)| **value == serde_json::Value::Bool(true));
            let names: Vec<&str> = on
                .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
                .map(|mode| mode.trim_end_matches("_tokens").trim_end_matches("_token"))
                .map(|mode| if mode == "max" || mode == "max_over" { "max" } else { mode })
                .collect();
            names.join("+")
        })
    }
}

fn is_pickle(file: &Path) -> bool {
    file.extension().and_then(|extension| extension.to_str()).is_some_and(|extension| PICKLES.contains(&extension))
}

/// Reads a JSON file of the model.
pub(super) fn read_json<T: DeserializeOwned>(name: &str, file: &Path) -> Result<T, ModelError> {
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
            (json!({"pooling_mode_max_tokens": true}), "max"),
            (json!({"pooling_mode_mean_sqrt_len_tokens": true}), "mean_sqrt_len"),
            (json!({"pooling_mode_lasttoken": true}), "lasttoken"),
            (json!({"pooling_mode_mean_tokens": false}), ""),
        ];
        for (config, mode) in cases {
            let parsed: PoolingConfig = serde_json::from_value(config.clone()).expect("a pooling configuration");
            assert_eq!(parsed.mode(), mode, "{config}");
        }
    }

    fn folder(modules: &[&str]) -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().expect("a folder");
        let listed: Vec<_> = modules.iter().map(|kind| json!({"type": format!("x.{kind}"), "path": kind})).collect();
        fs::write(dir.path().join("modules.json"), json!(listed).to_string()).expect("a file");
        let folder = ModelFolder::open("m", dir.path()).expect("a model folder");
        (dir, folder)
    }

    #[test]
    fn modules_in_another_order_are_refused() {
        let dense = |modules: &[&str]| {
            let others = [ModuleKind::Pooling, ModuleKind::Dense, ModuleKind::Normalize];
            folder(modules).1.expect_chain(&[ModuleKind::Transformer], &others)
        };
        dense(&[]).expect("a bare encoder");
        dense(&["Transformer"]).expect("without a pooling");
        dense(&["Transformer", "Pooling", "Dense", "Dense", "Normalize"]).expect("all of them");
        for modules in [
            &["Pooling", "Transformer"][..],
            &["Transformer", "Pooling", "Pooling"],
            &["Transformer", "Pooling", "Normalize", "Dense"],
            &["Transformer", "SpladePooling"],
            &["MLMTransformer", "Pooling"],
        ] {
            let message = dense(modules).expect_err("another order").to_string();
            assert!(message.contains(&modules.join(", ")), "{message}");
        }
    }

    #[test]
    fn another_splade_pooling_is_refused() {
        let (dir, folder) = folder(&["MLMTransformer", "SpladePooling"]);
        folder.expect_splade_max().expect("the default");
        fs::create_dir(dir.path().join("SpladePooling")).expect("a folder");
        let write = |config: serde_json::Value| {
            fs::write(dir.path().join("SpladePooling/config.json"), config.to_string()).expect("a file");
        };
        write(json!({"pooling_strategy": "max", "activation_function": "relu"}));
        folder.expect_splade_max().expect("the maximum");
        for (field, value) in [("pooling_strategy", "sum"), ("activation_function", "log1p_relu")] {
            write(json!({field: value}));
            let message = folder.expect_splade_max().expect_err("another one").to_string();
            assert!(message.contains(field) && message.contains(value), "{message}");
        }
    }

    #[test]
    fn prompts_are_chosen_as_the_reference_does() {
        let prompts = |json| serde_json::from_value::<FolderPrompts>(json).expect("prompts");
        let both = prompts(json!({"prompts": {"query": "q: ", "passage": "p: "}, "default_prompt_name": null}));
        assert_eq!((both.query(), both.document()), (Some("q: "), Some("p: ")));
        let default = prompts(json!({"prompts": {"sts": "s: "}, "default_prompt_name": "sts"}));
        assert_eq!((default.query(), default.document()), (Some("s: "), Some("s: ")));
        let empty = prompts(json!({"prompts": {"query": "", "document": ""}}));
        assert_eq!((empty.query(), empty.document()), (None, None));
        assert_eq!(FolderPrompts::default().document(), None);
    }
}
