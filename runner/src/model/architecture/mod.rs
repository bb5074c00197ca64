//! The architectures: one file each, which reads `config.json` and builds the encoder of the weights.

mod bert;
mod distilbert;
mod gemma3;
mod gte;
mod jina_bert;
mod modernbert;
mod mpnet;
mod nomic_bert;
mod qwen;
mod roberta;
mod rope;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::{ModelError, Weights, transformer::Encoder};
use crate::{ops::Activation, text::SpecialTokens};

/// An architecture that can be loaded.
pub struct Architecture {
    /// What people call it.
    pub name: &'static str,
    /// The `model_type`s of `config.json`.
    pub model_types: &'static [&'static str],
    /// The `position_embedding_type` that tells it from another one of the same `model_type`.
    pub positions: Option<&'static str>,
    /// What stands before the tensor names of the encoder in the files of some publishers.
    pub prefixes: &'static [&'static str],
    /// A tensor that every encoder of the architecture has; it shows which prefix a file uses.
    pub probe: &'static str,
    /// Beginnings of the names of tensors that belong to no encoder: heads that a dense model does not use.
    pub ignored: &'static [&'static str],
    /// Whether its sequences need special tokens around the text.
    pub special_tokens: SpecialTokens,
    /// Reads the configuration and builds the encoder.
    pub load: fn(&Config, &Weights) -> Result<Encoder, ModelError>,
}

/// All architectures.
pub const ARCHITECTURES: &[Architecture] = &[
    jina_bert::ARCHITECTURE,
    bert::ARCHITECTURE,
    roberta::ARCHITECTURE,
    distilbert::ARCHITECTURE,
    mpnet::ARCHITECTURE,
    nomic_bert::ARCHITECTURE,
    gte::ARCHITECTURE,
    modernbert::ARCHITECTURE,
    qwen::ARCHITECTURE,
    gemma3::ARCHITECTURE,
];

/// The most positions that a configuration may ask for: tables by position are made of them before any weight is read.
const MOST_POSITIONS: u64 = 1 << 20;

impl Architecture {
    /// The architecture that a configuration names.
    ///
    /// # Errors
    /// If it is not one of [`ARCHITECTURES`].
    pub fn of(config: &Config) -> Result<&'static Self, ModelError> {
        for field in ["max_position_embeddings", "n_positions"] {
            if let Some(positions) = config.get(field).as_u64().filter(|positions| *positions > MOST_POSITIONS) {
                return Err(config.contradiction(field, &positions.to_string(), "at most 1048576"));
            }
        }
        let (kind, positions) = (config.model_type(), config.get("position_embedding_type").as_str());
        let is = |architecture: &&Self| {
            architecture.model_types.contains(&kind)
                && (architecture.positions.is_none() || architecture.positions == positions)
        };
        ARCHITECTURES.iter().find(is).ok_or_else(|| {
            let mut known: Vec<_> = ARCHITECTURES.iter().flat_map(|other| other.model_types).copied().collect();
            known.sort_unstable();
            known.dedup();
            config.unsupported("model_type", kind, &known)
        })
    }
}

/// A model's `config.json`.
#[derive(Clone, Debug)]
pub struct Config {
    model: String,
    file: PathBuf,
    json: serde_json::Value,
}

impl Config {
    /// Of the file's content.
    pub fn new(model: &str, file: &Path, json: serde_json::Value) -> Self {
        Self { model: model.to_owned(), file: file.to_owned(), json }
    }

    /// `model_type`; empty when there is none.
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

    /// The activation `name` of the `field`.
    ///
    /// # Errors
    /// If there is no such activation.
    pub fn activation(&self, field: &'static str, name: &str) -> Result<Activation, ModelError> {
        Activation::parse(name).ok_or_else(|| self.unsupported(field, name, Activation::NAMES))
    }

    /// The width of a head, where the configuration does not say it: `hidden_size` shared among `heads`.
    ///
    /// # Errors
    /// If it cannot be shared.
    pub fn head_width(&self, hidden_size: usize, heads: usize) -> Result<usize, ModelError> {
        if heads > 0 && hidden_size > 0 && hidden_size.is_multiple_of(heads) {
            return Ok(hidden_size / heads);
        }
        Err(ModelError::Heads { model: self.model.clone(), file: self.file.clone(), hidden_size, heads })
    }

    /// Refuses a field that asks for what is not computed.
    ///
    /// # Errors
    /// If `found` is not one of the `supported` values.
    pub fn expect(&self, field: &'static str, found: &str, supported: &[&str]) -> Result<(), ModelError> {
        if supported.contains(&found) { Ok(()) } else { Err(self.unsupported(field, found, supported)) }
    }

    /// The same configuration without the field `name`, if there is the field `other`.
    #[must_use]
    pub fn without(&self, name: &str, other: &str) -> Self {
        let mut config = self.clone();
        if let Some(fields) = config.json.as_object_mut().filter(|fields| fields.contains_key(other)) {
            fields.remove(name);
        }
        config
    }

    /// A value that contradicts the rest of the configuration, or is not computed.
    pub fn contradiction(&self, field: &'static str, found: &str, supported: &str) -> ModelError {
        self.unsupported(field, found, &[supported])
    }

    /// A field that is not there.
    pub fn missing(&self, field: &'static str) -> ModelError {
        self.unsupported(field, "null", &["a number"])
    }

    fn unsupported(&self, field: &'static str, found: &str, supported: &[&str]) -> ModelError {
        ModelError::unsupported(&self.model, &self.file, field, found, supported)
    }
}
