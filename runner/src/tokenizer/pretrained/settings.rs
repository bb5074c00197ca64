//! The settings of a tokenizer: its files merged in the order of the reference (`PreTrainedTokenizerBase._from_pretrained`).

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::TruncationDirection;

use super::{
    fields::{Fields, Setting},
    files::TokenizerFiles,
    keys::{self, SPECIAL_TOKENS},
    token::Token,
};
use crate::tokenizer::error::TokenizerError;

/// The list of special tokens without a name of their own.
pub const EXTRA: &str = "extra_special_tokens";
const EXTRA_OLD: &str = "additional_special_tokens";
/// Added tokens by id.
pub const ADDED: &str = "added_tokens_decoder";

/// Tokenizers without a limit have a `model_max_length` such as 10³⁰: lengths from this one on are no limit.
const UNLIMITED_LENGTH: f64 = 1e9;

/// The merged settings.
#[derive(Debug)]
pub struct Settings {
    values: BTreeMap<String, Setting>,
    config: Fields,
    /// Whether the list of further tokens has its old name in `special_tokens_map.json`.
    extra_by_old_name: bool,
}

impl Settings {
    /// Merges the files: arguments override `tokenizer_config.json`. `special_tokens_map.json` overrides both, except arguments,
    /// and is not read if there is a list of added tokens by id.
    ///
    /// # Errors
    /// If a file has a key that is not known, or a setting that is not implemented.
    pub fn merge(files: &TokenizerFiles) -> Result<Self, TokenizerError> {
        keys::check_config(&files.config)?;
        keys::check_arguments(&files.arguments)?;
        keys::check_special_tokens_map(&files.special_tokens_map)?;
        // There is a tokenizer.json, whose post-processor decides.
        let dropped = ["add_bos_token", "add_eos_token"];
        let of_config = files.config.settings().filter(|(key, _)| !dropped.contains(key));
        let all = of_config.chain(files.arguments.settings());
        let values = all.map(|(key, setting)| (key.to_owned(), setting)).collect();
        let mut settings = Self { values, config: files.config.clone(), extra_by_old_name: false };
        if !settings.get(EXTRA).is_some_and(Setting::is_truthy)
            && let Some(old) = settings.values.remove(EXTRA_OLD)
        {
            settings.values.insert(EXTRA.to_owned(), old);
        }
        if settings.get(ADDED).is_none() {
            settings.merge_special_tokens_map(&files.special_tokens_map, &files.arguments);
        }
        if settings.get(EXTRA).is_none()
            && let Some(old) = settings.values.remove(EXTRA_OLD)
        {
            settings.values.insert(EXTRA.to_owned(), old);
            settings.extra_by_old_name = true;
        }
        settings.reject_unimplemented()?;
        Ok(settings)
    }

    fn merge_special_tokens_map(&mut self, map: &Fields, arguments: &Fields) {
        for (key, setting) in map.settings() {
            if arguments.setting(key).is_some_and(|argument| argument.is_truthy()) {
                continue;
            }
            let existing = self.values.get(key).map(|setting| setting.value.clone());
            let value = match (&setting.value, existing) {
                // Tokens with properties are special; a list of further tokens is joined with that of the configuration.
                (Value::Object(token), _) if key != EXTRA => {
                    let mut token = token.clone();
                    token.insert("special".into(), true.into());
                    Value::Object(token)
                }
                (Value::Array(more), Some(Value::Array(mut all))) if key == EXTRA => {
                    all.extend(more.iter().filter(|token| !all.contains(token)).cloned().collect::<Vec<_>>());
                    Value::Array(all)
                }
                (value, _) => value.clone(),
            };
            self.values.insert(key.to_owned(), setting.with(value));
        }
    }

    /// A setting by name.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.values.get(key)
    }

    /// A setting by name, or the place where it is missing.
    pub fn place(&self, key: &str) -> Setting {
        self.get(key).cloned().unwrap_or_else(|| self.config.missing(key, ""))
    }

    /// A setting that is true or false.
    ///
    /// # Errors
    /// If it is neither, nor null.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, TokenizerError> {
        self.get(key).map_or(Ok(None), |setting| match setting.value {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(value)),
            _ => Err(setting.unsupported("true, false")),
        })
    }

    /// The longest sequence in tokens; `None` if there is no limit.
    ///
    /// # Errors
    /// If it is not a number.
    pub fn max_length(&self) -> Result<Option<usize>, TokenizerError> {
        let setting = self.get("model_max_length").or_else(|| self.get("max_len"));
        setting.filter(|setting| !setting.value.is_null()).map_or(Ok(None), |setting| {
            let length = setting.value.as_f64().filter(|length| *length >= 0.0 && length.fract() == 0.0);
            let length = length.ok_or_else(|| setting.unsupported("a number of tokens"))?;
            Ok((length < UNLIMITED_LENGTH).then_some(length as usize))
        })
    }

    /// The side of a text that truncation removes; `None` if the settings do not say.
    ///
    /// # Errors
    /// If it is no side.
    pub fn truncation_side(&self) -> Result<Option<TruncationDirection>, TokenizerError> {
        self.get("truncation_side").map_or(Ok(None), |setting| match setting.value.as_str() {
            Some("left") => Ok(Some(TruncationDirection::Left)),
            Some("right") => Ok(Some(TruncationDirection::Right)),
            _ => Err(setting.unsupported("left, right")),
        })
    }

    /// Whether the model gets token types; `None` if the settings do not say.
    ///
    /// # Errors
    /// If it gets another input.
    pub fn segments(&self) -> Result<Option<bool>, TokenizerError> {
        const KNOWN: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];
        let Some(setting) = self.get("model_input_names") else { return Ok(None) };
        let names: Option<Vec<&str>> =
            setting.value.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
        match names {
            Some(names) if names.iter().all(|name| KNOWN.contains(name)) => Ok(Some(names.contains(&KNOWN[2]))),
            _ => Err(setting.unsupported(&KNOWN.join(", "))),
        }
    }

    /// The token of a special token's setting; `None` if the settings do not name it, or say that there is none.
    ///
    /// # Errors
    /// If it is not a token.
    pub fn token(&self, key: &str) -> Result<Option<Token>, TokenizerError> {
        self.get(key).filter(|setting| !setting.value.is_null()).map(Token::read).transpose()
    }

    /// The special tokens of a model's own, by the names of their settings.
    ///
    /// # Errors
    /// If one is not a token.
    pub fn tokens_of_model(&self) -> Result<Vec<(String, Token)>, TokenizerError> {
        let mut tokens = Vec::new();
        let own = |key: &str| key.ends_with("_token") && !SPECIAL_TOKENS.contains(&key);
        for (key, setting) in self.values.iter().filter(|(key, _)| own(key)) {
            if matches!(setting.value, Value::String(_) | Value::Object(_)) {
                tokens.push((key.clone(), Token::read(setting)?));
            }
        }
        if let Some(setting) = self.get(EXTRA)
            && let Value::Object(named) = &setting.value
        {
            for (name, token) in named {
                tokens.push((name.clone(), Token::read(&setting.with(token.clone()))?));
            }
        }
        Ok(tokens)
    }

    /// Whether a token of `added_tokens.json` is special if it is among those without a name. The reference does not find it if the
    /// list has its old name in `special_tokens_map.json`.
    pub fn extra_tokens_are_special(&self) -> bool {
        !self.extra_by_old_name
    }

    /// The special tokens without a name.
    ///
    /// # Errors
    /// If the setting is not a list of tokens.
    pub fn extra_tokens(&self) -> Result<Vec<Token>, TokenizerError> {
        let Some(setting) = self.get(EXTRA) else { return Ok(Vec::new()) };
        match &setting.value {
            Value::Null | Value::Object(_) => Ok(Vec::new()),
            Value::Array(tokens) => tokens
                .iter()
                // Properties without a type are those of an old special_tokens_map.json, where all tokens are special.
                .map(|token| match Token::read(&setting.with(token.clone()))? {
                    read if token.get("__type").is_some() => Ok(read),
                    read => Ok(read.into_special()),
                })
                .collect(),
            _ => Err(setting.unsupported("a list of tokens")),
        }
    }

    /// Rejects settings with which the reference would load other files, or run code of the model.
    fn reject_unimplemented(&self) -> Result<(), TokenizerError> {
        if let Some(setting) = self.get("auto_map").filter(|map| {
            let own = &map.value["AutoTokenizer"];
            map.value.is_array() || own.is_array() || own.is_string()
        }) {
            return Err(setting.unsupported("no tokenizer of the model's own code"));
        }
        for key in ["fast_tokenizer_files", "init_inputs"] {
            if let Some(setting) = self.get(key).filter(|setting| setting.is_truthy()) {
                return Err(setting.unsupported("null"));
            }
        }
        Ok(())
    }
}
