//! `sentence_bert_config.json` and its older names: how the `Transformer` module of `sentence-transformers` 6.2 is set up.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{files::Files, modules::ModuleKind};
use crate::{model::ModelError, tokenizer::Fields};

/// The names of the file, in the order in which the reference tries them.
const FILES: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Arguments that say where a file is loaded from; the reference overrides them.
const OF_THE_HUB: [&str; 9] = [
    "cache_dir",
    "force_download",
    "local_files_only",
    "proxies",
    "revision",
    "subfolder",
    "token",
    "trust_remote_code",
    "use_auth_token",
];

/// Arguments of the model without effect: the run chooses type and device, and how attention is computed.
const OF_THE_MODEL: [&str; 7] = [
    "add_pooling_layer",
    "attn_implementation",
    "device_map",
    "dtype",
    "low_cpu_mem_usage",
    "torch_dtype",
    "use_safetensors",
];

/// Fields of `config.json` that arguments may override, if the file has them.
const OVERRIDABLE: [&str; 9] = [
    "activation",
    "hidden_act",
    "hidden_activation",
    "layer_norm_eps",
    "max_position_embeddings",
    "n_layers",
    "norm_eps",
    "num_hidden_layers",
    "rms_norm_eps",
];

/// Fields of `config.json` without effect on vectors: training, outputs that are not read, type and form of the arithmetic.
const WITHOUT_EFFECT: [&str; 15] = [
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_implementation",
    "classifier_dropout",
    "dropout",
    "dtype",
    "embedding_dropout",
    "hidden_dropout_prob",
    "initializer_range",
    "mlp_dropout",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torch_dtype",
    "use_cache",
];

/// What a `Transformer` module computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Hidden states.
    FeatureExtraction,
    /// Logits of a masked language model.
    FillMask,
    /// Scores of a pair.
    SequenceClassification,
    /// Logits of the next token, from which a module behind computes a score.
    TextGeneration,
}

impl Task {
    const fn name(self) -> &'static str {
        match self {
            Self::FeatureExtraction => "feature-extraction",
            Self::FillMask => "fill-mask",
            Self::SequenceClassification => "sequence-classification",
            Self::TextGeneration => "text-generation",
        }
    }

    /// The output of the model that is taken, and the name that the following modules know it by.
    const fn outputs(self) -> [&'static str; 2] {
        match self {
            Self::FeatureExtraction => ["last_hidden_state", "token_embeddings"],
            Self::FillMask => ["logits", "token_embeddings"],
            Self::SequenceClassification => ["logits", "scores"],
            Self::TextGeneration => ["logits", "causal_logits"],
        }
    }
}

/// The settings of a `Transformer` module; the defaults are those of a folder without modules.
#[derive(Debug)]
pub struct TransformerSettings {
    model: String,
    file: PathBuf,
    /// The task, and the outputs as the file names them; none in a folder without modules.
    task: Option<Value>,
    modality: Value,
    output: Value,
    /// Whether texts are mapped to lower case.
    pub lower_case: bool,
    max_seq_length: Option<usize>,
    document_length: Option<usize>,
    query_length: Option<usize>,
    call: CallArguments,
    /// The arguments of the configuration.
    configuration: Map<String, Value>,
    configuration_name: &'static str,
    /// The arguments of the tokenizer.
    pub tokenizer: Fields,
}

/// The arguments with which texts are tokenized.
#[derive(Debug)]
struct CallArguments {
    truncates: bool,
    /// `max_length`, if it is set.
    max_length: Option<usize>,
    special_tokens: bool,
}

/// The longest sequences of the two sides, in tokens; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Of a document.
    pub document: Option<usize>,
    /// Of a query.
    pub query: Option<usize>,
    /// Of a pair.
    pub pair: Option<usize>,
}

impl TransformerSettings {
    /// The settings of a folder without modules, for which the reference does not read the file.
    pub(super) fn of_bare_encoder(model: &str, dir: &Path) -> Self {
        Self {
            model: model.to_owned(),
            file: dir.join(FILES[0]),
            task: None,
            modality: Value::Null,
            output: Value::Null,
            lower_case: false,
            max_seq_length: None,
            document_length: None,
            query_length: None,
            call: CallArguments { truncates: true, max_length: None, special_tokens: true },
            configuration: Map::new(),
            configuration_name: "config_kwargs",
            tokenizer: Fields::default(),
        }
    }

    /// Reads the first of the files in `dir` that has a field.
    ///
    /// # Errors
    /// If the file is invalid, or has a field that is unknown or not implemented.
    pub(super) fn read(files: &Files, dir: &Path, kind: ModuleKind) -> Result<Self, ModelError> {
        let task = if kind == ModuleKind::MlmTransformer { Task::FillMask } else { Task::FeatureExtraction };
        let mut settings = Self::of_bare_encoder(files.model(), dir);
        settings.task = Some(task.name().into());
        for file in FILES.map(|name| dir.join(name)) {
            if files.has(&file)? {
                let fields: Map<String, Value> = files.json(&file)?;
                if !fields.is_empty() {
                    settings.file = file;
                    settings.take(fields)?;
                    break;
                }
            }
        }
        Ok(settings)
    }

    fn take(&mut self, fields: Map<String, Value>) -> Result<(), ModelError> {
        let has_old = |old: &str| fields.contains_key(old);
        let overridden =
            [("model_kwargs", "model_args"), ("config_kwargs", "config_args"), ("processor_kwargs", "tokenizer_args")];
        let overridden: Vec<&str> =
            overridden.into_iter().filter(|(_, old)| has_old(old)).map(|(new, _)| new).collect();
        for (key, value) in fields {
            // An argument by its old name replaces that by the new one.
            if overridden.contains(&key.as_str()) {
                continue;
            }
            match key.as_str() {
                "transformer_task" => self.task = Some(value),
                "modality_config" => self.modality = value,
                "module_output_name" => self.output = value,
                "do_lower_case" => self.lower_case = self.flag("do_lower_case", &value)?,
                "max_seq_length" => self.max_seq_length = self.length("max_seq_length", &value)?,
                "document_length" => self.document_length = self.length("document_length", &value)?,
                "query_length" => self.query_length = self.length("query_length", &value)?,
                "model_args" | "model_kwargs" => self.check_model_arguments(&key, &value)?,
                "config_args" => {
                    (self.configuration, self.configuration_name) = (self.object(&key, value)?, "config_args");
                }
                "config_kwargs" => self.configuration = self.object(&key, value)?,
                "tokenizer_args" | "processor_kwargs" => {
                    self.tokenizer = Fields::of_object(&self.file, &key, self.object(&key, value)?);
                }
                "processing_kwargs" => self.take_call_arguments(&value)?,
                // How a batch is computed; where the module was loaded.
                "backend" | "unpad_inputs" | "cache_dir" => {}
                "query_expansion" | "tokenizer_name_or_path" if value.is_null() => {}
                "query_expansion" | "tokenizer_name_or_path" => return Err(self.unsupported(&key, &value, &["null"])),
                _ => return Err(self.unknown(&key, &value)),
            }
        }
        Ok(())
    }

    /// Checks that the module computes what this kind of model needs: one of the `tasks`, whose outputs it takes. Conversations
    /// are the caller's.
    ///
    /// # Errors
    /// If it computes something else.
    pub fn expect_task(&self, tasks: &[Task]) -> Result<(), ModelError> {
        let Some(found) = &self.task else { return Ok(()) };
        let Some(task) = tasks.iter().find(|task| *found == task.name()) else {
            let names: Vec<&str> = tasks.iter().map(|task| task.name()).collect();
            return Err(self.unsupported("transformer_task", found, &names));
        };
        let [output, module_output] = task.outputs();
        let text = serde_json::json!({"method": "forward", "method_output_name": output});
        let mut modality = self.modality.clone();
        if *task == Task::TextGeneration
            && let Some(modalities) = modality.as_object_mut()
        {
            modalities.remove("message");
        }
        if !modality.is_null() && modality != serde_json::json!({"text": text}) {
            let supported = serde_json::json!({"text": text}).to_string();
            return Err(self.unsupported("modality_config", &self.modality, &[&supported]));
        }
        if !self.output.is_null() && self.output != module_output {
            return Err(self.unsupported("module_output_name", &self.output, &[module_output]));
        }
        Ok(())
    }

    /// `config.json` with the arguments of the configuration.
    ///
    /// # Errors
    /// If an argument is not implemented.
    pub fn configure(&self, mut config: Value) -> Result<Value, ModelError> {
        for (key, value) in &self.configuration {
            let known = [&OF_THE_HUB[..], &WITHOUT_EFFECT].concat();
            if known.contains(&key.as_str()) {
                continue;
            }
            let replaces = OVERRIDABLE.contains(&key.as_str()) && config.get(key).is_some();
            if !replaces {
                let field = format!("{}.{key}", self.configuration_name);
                let mut supported: Vec<&str> =
                    OVERRIDABLE.into_iter().filter(|known| config.get(known).is_some()).collect();
                supported.push("and fields without effect on vectors");
                return Err(self.unsupported(&field, value, &supported));
            }
            config[key] = value.clone();
        }
        Ok(config)
    }

    /// The number of layers that the arguments leave of those of `config.json`, if they leave fewer.
    pub fn layers_left(&self, config: &Value) -> Option<usize> {
        let fewer = |key: &&str| {
            let left = self.configuration.get(*key)?.as_u64()?;
            (left < config[*key].as_u64()?).then_some(left as usize)
        };
        ["num_hidden_layers", "n_layers"].iter().find_map(fewer)
    }

    /// Whether special tokens are added to a text.
    pub fn adds_special_tokens(&self) -> bool {
        self.call.special_tokens
    }

    /// The longest sequence that a field sets, in tokens; 0 if none does.
    pub fn longest_asked(&self) -> usize {
        // More is no length, but the absence of a limit.
        const LIMIT: usize = 1 << 20;
        let of_tokenizer = self.tokenizer.get("model_max_length").and_then(Value::as_u64);
        let of_tokenizer = of_tokenizer.and_then(|length| usize::try_from(length).ok());
        let asked = [self.max_seq_length, self.document_length, self.query_length, self.call.max_length, of_tokenizer];
        asked.into_iter().flatten().filter(|length| *length <= LIMIT).max().unwrap_or(0)
    }

    /// The longest sequences. `of_tokenizer` is the limit of the tokenizer's files, arguments included, and `of_config` that of
    /// `config.json`.
    pub fn lengths(&self, of_tokenizer: Option<usize>, of_config: usize) -> Lengths {
        let pair = if self.tokenizer.get("model_max_length").is_some() {
            of_tokenizer
        } else {
            // The setting replaces the limits of tokenizer and configuration, it is not capped by them.
            self.max_seq_length.or(Some(of_tokenizer.map_or(of_config, |length| length.min(of_config))))
        };
        let called = |of_side: Option<usize>| match (self.call.truncates, self.call.max_length) {
            (false, _) => None,
            (true, Some(length)) => Some(length),
            (true, None) => of_side.or(pair),
        };
        Lengths { document: called(self.document_length), query: called(self.query_length), pair: called(None) }
    }

    fn check_model_arguments(&self, key: &str, value: &Value) -> Result<(), ModelError> {
        for (argument, value) in &self.object(key, value.clone())? {
            let known = [&OF_THE_HUB[..], &OF_THE_MODEL].concat();
            if !known.contains(&argument.as_str()) {
                return Err(self.unknown(&format!("{key}.{argument}"), value));
            }
        }
        Ok(())
    }

    fn take_call_arguments(&mut self, value: &Value) -> Result<(), ModelError> {
        const KEY: &str = "processing_kwargs";
        let groups = self.object(KEY, value.clone())?;
        // The common arguments come last: they override those of texts.
        for name in ["text", "common"] {
            let Some(group) = groups.get(name) else { continue };
            let field = format!("{KEY}.{name}");
            for (argument, value) in &self.object(&field, group.clone())? {
                let field = format!("{field}.{argument}");
                match argument.as_str() {
                    "max_length" => self.call.max_length = self.length(&field, value)?,
                    "add_special_tokens" => self.call.special_tokens = self.flag(&field, value)?,
                    "truncation" => {
                        self.call.truncates = match value {
                            Value::Bool(truncates) => *truncates,
                            Value::Null => false,
                            Value::String(strategy) if strategy == "longest_first" => true,
                            Value::String(strategy) if strategy == "do_not_truncate" => false,
                            _ => {
                                return Err(self.unsupported(
                                    &field,
                                    value,
                                    &["true, false, longest_first, do_not_truncate"],
                                ));
                            }
                        }
                    }
                    // Sequences are not padded, and these outputs are not read.
                    "logits_to_keep"
                    | "pad_to_multiple_of"
                    | "padding"
                    | "padding_side"
                    | "return_attention_mask"
                    | "return_length"
                    | "return_tensors"
                    | "verbose" => {}
                    _ => return Err(self.unknown(&field, value)),
                }
            }
        }
        // Texts are not conversations, images, sounds or films.
        let others = ["audio", "chat_template", "common", "image", "text", "video"];
        match groups.iter().find(|(name, _)| !others.contains(&name.as_str())) {
            None => Ok(()),
            Some((name, value)) => Err(self.unsupported(&format!("{KEY}.{name}"), value, &others)),
        }
    }

    fn object(&self, field: &str, value: Value) -> Result<Map<String, Value>, ModelError> {
        match value {
            Value::Object(fields) => Ok(fields),
            Value::Null => Ok(Map::new()),
            value => Err(self.unsupported(field, &value, &["an object"])),
        }
    }

    fn flag(&self, field: &str, value: &Value) -> Result<bool, ModelError> {
        if value.is_null() {
            return Ok(false);
        }
        value.as_bool().ok_or_else(|| self.unsupported(field, value, &["true", "false"]))
    }

    fn length(&self, field: &str, value: &Value) -> Result<Option<usize>, ModelError> {
        if value.is_null() {
            return Ok(None);
        }
        let length = value.as_u64().and_then(|length| usize::try_from(length).ok());
        length.map(Some).ok_or_else(|| self.unsupported(field, value, &["a number of tokens", "null"]))
    }

    fn unknown(&self, field: &str, found: &Value) -> ModelError {
        let (model, file) = (self.model.clone(), self.file.clone());
        ModelError::UnknownField { model, file, field: field.to_owned(), value: found.to_string() }
    }

    fn unsupported(&self, field: &str, found: &Value, supported: &[&str]) -> ModelError {
        ModelError::unsupported(&self.model, &self.file, field, &text(found), supported)
    }
}

/// A string without quotes, all else as JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}
