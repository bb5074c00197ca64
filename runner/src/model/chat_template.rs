//! The chat template of a reranker that is a language model: a pair of texts to the text that the model reads, as
//! `transformers` renders it (`transformers/utils/chat_template_utils.py`).

use std::path::{Path, PathBuf};

use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Serde};
use serde_json::Value as Json;

use super::{ModelError, folder::ModelFolder};
use crate::tokenizer::Tokenizer;

/// The file of the template; it precedes the field of `tokenizer_config.json`.
const FILE: &str = "chat_template.jinja";
const FIELD_FILE: &str = "tokenizer_config.json";
const SETTINGS: &str = "sentence_bert_config.json";
/// Steps after which a rendering is given up.
const FUEL: u64 = 10_000_000;

/// A chat template that carries a query and a document.
pub(super) struct ChatTemplate {
    model: String,
    file: PathBuf,
    environment: Environment<'static>,
    /// Whether the content of a message is a list of parts.
    structured: bool,
    /// Variables of the template beside the messages.
    variables: Value,
    /// The message of the system, in front of the pair.
    system: Option<String>,
    /// The tokens behind the texts, which truncation keeps.
    suffix: Vec<u32>,
}

impl ChatTemplate {
    /// The template of a folder; `None` if the folder says that pairs are read without one. The text `system` is the message of
    /// the system.
    ///
    /// # Errors
    /// If the template is missing or invalid, or leaves out the query or the document.
    pub(super) fn open(
        folder: &ModelFolder,
        tokenizer: &Tokenizer,
        system: Option<&str>,
    ) -> Result<Option<Self>, ModelError> {
        let settings: Json = folder.files.optional_json(&folder.encoder_dir.join(SETTINGS))?;
        let Some(message) = settings["modality_config"].get("message") else { return Ok(None) };
        let (file, text, special_tokens) = read(folder)?;
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        let invalid = |source: Error| ModelError::Template { model: folder.name.clone(), file: file.clone(), source };
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(invalid)?);
        environment.add_template_owned("chat", text).map_err(invalid)?;
        let mut variables = special_tokens;
        variables.insert("add_generation_prompt".into(), false.into());
        for (name, value) in settings["processing_kwargs"]["chat_template"].as_object().into_iter().flatten() {
            variables.insert(name.clone(), value.clone());
        }
        let mut template = Self {
            model: folder.name.clone(),
            structured: message["format"].as_str() == Some("structured"),
            variables: Value::from(Serde(&variables)),
            system: system.map(ToOwned::to_owned),
            suffix: Vec::new(),
            environment,
            file,
        };
        template.check()?;
        if variables.get("restore_suffix").and_then(Json::as_bool).unwrap_or(true) {
            template.suffix = template.common_suffix(tokenizer)?;
        }
        Ok(Some(template))
    }

    /// The text of a pair.
    ///
    /// # Errors
    /// If the template rejects it.
    pub(super) fn render(&self, query: &str, document: &str) -> Result<String, ModelError> {
        let message = |role: &str, text: &str| {
            if self.structured {
                context! { role => role, content => vec![context! { type => "text", text => text }] }
            } else {
                context! { role => role, content => text }
            }
        };
        let system = self.system.iter().map(|text| message("system", text));
        let messages: Vec<Value> = system.chain([message("query", query), message("document", document)]).collect();
        let rendered = self
            .environment
            .get_template("chat")
            .and_then(|template| template.render(context! { messages => messages, ..self.variables.clone() }));
        rendered.map_err(|source| self.invalid(source))
    }

    /// The tokens behind the texts.
    pub(super) fn suffix(&self) -> &[u32] {
        &self.suffix
    }

    /// Checks that both texts reach the rendered text: a template of other roles drops them.
    fn check(&self) -> Result<(), ModelError> {
        let plain = self.render("0", "0")?;
        for (role, changed) in [("query", self.render("1", "0")?), ("document", self.render("0", "1")?)] {
            if changed == plain {
                let message = format!("the template leaves out the message of the role {role:?}");
                return Err(self.invalid(Error::new(ErrorKind::InvalidOperation, message)));
            }
        }
        Ok(())
    }

    /// The tokens that end the renderings of two different pairs.
    fn common_suffix(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, ModelError> {
        let ids = |filler: &str| {
            let text = self.render(filler, filler)?;
            tokenizer.ids(&text).map_err(|source| ModelError::tokenizer(&self.model, source))
        };
        let (first, second) = (ids("0")?, ids("1 2 3 4")?);
        let count = first.iter().rev().zip(second.iter().rev()).take_while(|(one, other)| one == other).count();
        // Renderings that are the same throughout have no content between.
        let found = count < first.len().min(second.len());
        Ok(if found { first[first.len() - count..].to_vec() } else { Vec::new() })
    }

    fn invalid(&self, source: Error) -> ModelError {
        ModelError::Template { model: self.model.clone(), file: self.file.clone(), source }
    }
}

/// The file of the template, its text, and the special tokens by name.
fn read(folder: &ModelFolder) -> Result<(PathBuf, String, serde_json::Map<String, Json>), ModelError> {
    let (file, config_file) = (folder.encoder_dir.join(FILE), folder.encoder_dir.join(FIELD_FILE));
    let config: Json = folder.files.optional_json(&config_file)?;
    let mut special_tokens = serde_json::Map::new();
    for (name, token) in config.as_object().into_iter().flatten().filter(|(name, _)| name.ends_with("_token")) {
        // A token is a text, or an object with its text.
        if let Some(text) = token.as_str().or_else(|| token["content"].as_str()) {
            special_tokens.insert(name.clone(), text.into());
        }
    }
    if folder.files.has(&file)? {
        let text = String::from_utf8_lossy(&folder.files.bytes(&file)?).into_owned();
        return Ok((file, text, special_tokens));
    }
    match template_of(&config["chat_template"]) {
        Some(text) => Ok((config_file, text.to_owned(), special_tokens)),
        None => Err(ModelError::FileMissing { model: folder.name.clone(), file: Path::to_owned(&file) }),
    }
}

/// The template of the field `chat_template`: a text, or a list of named ones, of which `default` is used.
fn template_of(field: &Json) -> Option<&str> {
    let named = || field.as_array()?.iter().find(|entry| entry["name"] == "default")?["template"].as_str();
    field.as_str().or_else(named)
}
