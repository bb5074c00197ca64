//! The fields of a JSON file, which know where they were read.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::tokenizer::error::TokenizerError;

/// The fields of a JSON file, or of one object in it.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    file: PathBuf,
    /// The name of the object in the file; empty for the file itself.
    object: String,
    values: Map<String, Value>,
}

impl Fields {
    /// The fields `values` of the `file`.
    pub fn new(file: &Path, values: Map<String, Value>) -> Self {
        Self { file: file.to_owned(), object: String::new(), values }
    }

    /// The fields `values` of an `object` in the `file`.
    pub fn of_object(file: &Path, object: &str, values: Map<String, Value>) -> Self {
        Self { file: file.to_owned(), object: object.to_owned(), values }
    }

    /// A field by name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// A field by name, with its place.
    pub fn setting(&self, key: &str) -> Option<Setting> {
        self.get(key).map(|value| self.placed(key, value.clone()))
    }

    /// The place of a field that is not there, with the value that holds in its stead.
    pub fn missing(&self, key: &str, value: &str) -> Setting {
        self.placed(key, Value::String(value.to_owned()))
    }

    /// All fields, with their places.
    pub fn settings(&self) -> impl Iterator<Item = (&str, Setting)> {
        self.values.iter().map(|(key, value)| (key.as_str(), self.placed(key, value.clone())))
    }

    fn placed(&self, key: &str, value: Value) -> Setting {
        let field = if self.object.is_empty() { key.to_owned() } else { format!("{}.{key}", self.object) };
        Setting { file: self.file.clone(), field, value }
    }
}

/// The value of a field, and where it was read.
#[derive(Clone, Debug)]
pub struct Setting {
    file: PathBuf,
    field: String,
    /// The value.
    pub value: Value,
}

impl Setting {
    /// The same place with another value.
    pub fn with(&self, value: Value) -> Self {
        Self { value, ..self.clone() }
    }

    /// Whether Python takes the value for true.
    pub fn is_truthy(&self) -> bool {
        match &self.value {
            Value::Null => false,
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
        }
    }

    /// The error of a value that is not one of the `supported`.
    pub fn unsupported(&self, supported: &str) -> TokenizerError {
        let found = match &self.value {
            Value::String(text) => format!("{text:?}"),
            value => value.to_string(),
        };
        TokenizerError::Unsupported {
            path: self.file.clone(),
            field: self.field.as_str().into(),
            found: found.into(),
            supported: supported.into(),
        }
    }

    /// The error of a field that is not known.
    pub fn unknown(&self) -> TokenizerError {
        TokenizerError::UnknownField {
            path: self.file.clone(),
            field: self.field.clone(),
            value: self.value.to_string(),
        }
    }
}
