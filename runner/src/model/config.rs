//! A model's `config.json`.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::ModelError;
use crate::ops::Activation;

/// A model's `config.json`.
#[derive(Clone, Debug)]
pub struct Config {
    model: String,
    file: PathBuf,
    json: serde_json::Value,
    layers_left: Option<usize>,
    longest_asked: usize,
}

impl Config {
    /// The content `json` of the `file`.
    pub fn new(model: &str, file: &Path, json: serde_json::Value) -> Self {
        Self { model: model.to_owned(), file: file.to_owned(), json, layers_left: None, longest_asked: 0 }
    }

    /// The same configuration of a model whose folder has more layers than are computed.
    #[must_use]
    pub fn with_layers_left(self, layers_left: Option<usize>) -> Self {
        Self { layers_left, ..self }
    }

    /// The same configuration of a model whose folder asks for sequences of `longest` tokens.
    #[must_use]
    pub fn with_longest_asked(self, longest: usize) -> Self {
        Self { longest_asked: longest, ..self }
    }

    /// The positions of a model without a table of them: `of_config`, or more if the folder asks for longer sequences.
    pub fn positions(&self, of_config: usize) -> usize {
        of_config.max(self.longest_asked)
    }

    /// The number of layers that are computed, if the folder has more.
    pub fn layers_left(&self) -> Option<usize> {
        self.layers_left
    }

    /// `model_type`; empty if it is missing.
    pub fn model_type(&self) -> &str {
        self.json["model_type"].as_str().unwrap_or_default()
    }

    /// The names of `architectures`.
    pub fn architectures(&self) -> impl Iterator<Item = &str> {
        self.json["architectures"].as_array().into_iter().flatten().filter_map(|name| name.as_str())
    }

    /// A field by name.
    pub fn get(&self, field: &str) -> &serde_json::Value {
        &self.json[field]
    }

    /// The fields of `T`.
    ///
    /// # Errors
    /// If a field is missing or has another type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ModelError> {
        serde_json::from_value(self.json.clone()).map_err(|source| ModelError::FileInvalid {
            model: self.model.clone(),
            file: self.file.clone(),
            source,
        })
    }

    /// The activation `name`, which is the value of the `field`.
    ///
    /// # Errors
    /// If the activation is not supported.
    pub fn activation(&self, field: &'static str, name: &str) -> Result<Activation, ModelError> {
        Activation::parse(name).ok_or_else(|| self.unsupported(field, name, Activation::NAMES))
    }

    /// The width of a head if the configuration does not give it: `hidden_size` divided by `heads`.
    ///
    /// # Errors
    /// If `heads` does not divide `hidden_size`.
    pub fn head_width(&self, hidden_size: usize, heads: usize) -> Result<usize, ModelError> {
        if heads > 0 && hidden_size > 0 && hidden_size.is_multiple_of(heads) {
            return Ok(hidden_size / heads);
        }
        Err(ModelError::Heads { model: self.model.clone(), file: self.file.clone(), hidden_size, heads })
    }

    /// Rejects a field whose value `found` is not one of the `supported` values.
    ///
    /// # Errors
    /// If the value is not supported.
    pub fn expect(&self, field: &'static str, found: &str, supported: &[&str]) -> Result<(), ModelError> {
        if supported.contains(&found) { Ok(()) } else { Err(self.unsupported(field, found, supported)) }
    }

    /// The same configuration without the field `field`, if it has the `preferred` field.
    #[must_use]
    pub fn without(&self, field: &str, preferred: &str) -> Self {
        let mut config = self.clone();
        if let Some(fields) = config.json.as_object_mut().filter(|fields| fields.contains_key(preferred)) {
            fields.remove(field);
        }
        config
    }

    /// The error of a value that contradicts the rest of the configuration, or is not supported.
    pub fn contradiction(&self, field: &'static str, found: &str, supported: &str) -> ModelError {
        self.unsupported(field, found, &[supported])
    }

    /// The error of a missing field.
    pub fn missing(&self, field: &'static str) -> ModelError {
        self.unsupported(field, "null", &["a number"])
    }

    pub(super) fn unsupported(&self, field: &'static str, found: &str, supported: &[&str]) -> ModelError {
        ModelError::unsupported(&self.model, &self.file, field, found, supported)
    }
}
