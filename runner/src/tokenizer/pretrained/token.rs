//! A token that a file names: its text, and how it is found in a text.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::AddedToken;

use super::fields::Setting;
use crate::tokenizer::error::TokenizerError;

/// A token as a file names it.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// Its text alone.
    Text(String),
    /// Its text and the properties of an `AddedToken`.
    Added(Properties),
}

/// The properties of an `AddedToken`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Properties {
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    /// Whether it is found in the normalised text; by default if the token is not special.
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Token {
    /// A token of the `tokenizers` library.
    pub fn of(token: &AddedToken) -> Self {
        Self::Added(Properties {
            content: token.content.clone(),
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            normalized: Some(token.normalized),
            special: token.special,
        })
    }

    /// A token with the default properties.
    pub fn added(content: &str, special: bool) -> Self {
        Self::Added(Properties {
            content: content.to_owned(),
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: None,
            special,
        })
    }

    /// Same as [`Token::added`], found with the whitespace on its left.
    pub fn stripped_left(content: &str, special: bool) -> Self {
        match Self::added(content, special) {
            Self::Added(properties) => Self::Added(Properties { lstrip: true, ..properties }),
            text @ Self::Text(_) => text,
        }
    }

    /// Reads a token: a text, or an object with properties.
    ///
    /// # Errors
    /// If the value is neither.
    pub fn read(setting: &Setting) -> Result<Self, TokenizerError> {
        match &setting.value {
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Object(fields) => {
                let mut fields = fields.clone();
                fields.remove("__type");
                serde_json::from_value(Value::Object(fields))
                    .map(Self::Added)
                    .map_err(|_| setting.unsupported("a token with content and its properties"))
            }
            _ => Err(setting.unsupported("a token")),
        }
    }

    /// The same token, special if it has properties.
    pub fn into_special(self) -> Self {
        match self {
            Self::Added(properties) => Self::Added(Properties { special: true, ..properties }),
            text @ Self::Text(_) => text,
        }
    }

    /// Its text.
    pub fn content(&self) -> &str {
        match self {
            Self::Text(content) | Self::Added(Properties { content, .. }) => content,
        }
    }

    /// The token for the `tokenizers` library; a text alone is a special token.
    pub fn to_added(&self) -> AddedToken {
        match self {
            Self::Text(content) => AddedToken::from(content.clone(), true),
            Self::Added(token) => AddedToken::from(token.content.clone(), token.special)
                .single_word(token.single_word)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .normalized(token.normalized.unwrap_or(!token.special)),
        }
    }
}
