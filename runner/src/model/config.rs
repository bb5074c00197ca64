//! A model's `config.json`. It records which fields were read, so that any other field is either known to have no effect or
//! rejected.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    rc::Rc,
};

use crds::v1alpha1::Dtype;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{config_keys, error::ModelError, folder::field_path};
use crate::ops::Activation;

/// A model's `config.json`.
#[derive(Clone, Debug)]
pub struct Config {
    model: String,
    file: PathBuf,
    json: Value,
    layers_left: Option<usize>,
    longest_asked: usize,
    /// The fields that were read.
    read: Rc<RefCell<BTreeSet<String>>>,
    /// Fields of objects that were read without them, by their path.
    unknown: Rc<RefCell<BTreeMap<String, Value>>>,
}

impl Config {
    /// The content `json` of the `file`.
    pub fn new(model: &str, file: &Path, json: Value) -> Self {
        let (read, unknown) = (Rc::default(), Rc::default());
        Self {
            model: model.to_owned(),
            file: file.to_owned(),
            json,
            layers_left: None,
            longest_asked: 0,
            read,
            unknown,
        }
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
        self.get("model_type").as_str().unwrap_or_default()
    }

    /// The names of `architectures`.
    pub fn architectures(&self) -> impl Iterator<Item = &str> {
        self.get("architectures").as_array().into_iter().flatten().filter_map(|name| name.as_str())
    }

    /// A field by name.
    pub fn get(&self, field: &str) -> &Value {
        self.read.borrow_mut().insert(field.to_owned());
        &self.json[field]
    }

    /// A field by name, to choose who reads it: it does not count as read.
    pub(super) fn peek(&self, field: &str) -> &Value {
        &self.json[field]
    }

    /// The type that the model was saved in, if it is one of ours.
    pub fn saved_dtype(&self) -> Option<Dtype> {
        let saved = ["dtype", "torch_dtype"].into_iter().find_map(|field| self.get(field).as_str());
        match saved?.rsplit('.').next()? {
            "bfloat16" => Some(Dtype::Bf16),
            "float16" => Some(Dtype::F16),
            "float32" => Some(Dtype::F32),
            _ => None,
        }
    }

    /// Rejects a field that nothing has read and that is not known to have no effect.
    ///
    /// # Errors
    /// If there is such a field, or a field of fixed effect has another value than the one that is implemented.
    pub fn reject_unknown(&self) -> Result<(), ModelError> {
        let unknown = |field: &str, value: &Value| {
            Err(ModelError::UnknownField {
                model: self.model.clone(),
                file: self.file.clone(),
                field: field.to_owned(),
                value: value.to_string(),
            })
        };
        if let Some((field, value)) = self.unknown.borrow().first_key_value() {
            return unknown(field, value);
        }
        let read = self.read.borrow();
        for (field, value) in self.json.as_object().into_iter().flatten().filter(|(field, _)| !read.contains(*field)) {
            match config_keys::effect(field) {
                config_keys::Effect::None => {}
                config_keys::Effect::Only(supported) => {
                    let found = value.to_string();
                    if !supported.contains(&found.as_str()) {
                        return Err(ModelError::unsupported(&self.model, &self.file, field, &found, supported));
                    }
                }
                config_keys::Effect::Unknown => return unknown(field, value),
            }
        }
        Ok(())
    }

    /// Rejects the fields of the object `field` that are not `known`, at any depth; the values of the `known` ones are the
    /// caller's to check.
    pub fn expect_fields(&self, field: &str, known: &[&str]) {
        let mut objects = vec![(field.to_owned(), self.get(field))];
        while let Some((path, object)) = objects.pop() {
            for (name, value) in object.as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                if !known.contains(&name.as_str()) {
                    self.unknown.borrow_mut().insert(path, value.clone());
                } else if value.is_object() {
                    objects.push((path, value));
                }
            }
        }
    }

    /// The fields of `T`.
    ///
    /// # Errors
    /// If a field is missing or has another type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ModelError> {
        let mut ignored = BTreeSet::new();
        let parsed = serde_ignored::deserialize(&self.json, |path| {
            ignored.insert(field_path(&path));
        });
        let fields = self.json.as_object().into_iter().flatten().map(|(field, _)| field);
        self.read.borrow_mut().extend(fields.filter(|field| !ignored.contains(*field)).cloned());
        for path in ignored.into_iter().filter(|path| self.json.get(path).is_none()) {
            let value = self.json.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default();
            self.unknown.borrow_mut().insert(path, value);
        }
        parsed.map_err(|source| ModelError::FileInvalid { model: self.model.clone(), file: self.file.clone(), source })
    }

    /// The activation `name`, which is the value of the `field`.
    ///
    /// # Errors
    /// If the activation is not supported.
    pub fn activation(&self, field: &str, name: &str) -> Result<Activation, ModelError> {
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
    pub fn expect(&self, field: &str, found: &str, supported: &[&str]) -> Result<(), ModelError> {
        if supported.contains(&found) { Ok(()) } else { Err(self.unsupported(field, found, supported)) }
    }

    /// The same configuration without the field `field`, if it has the `preferred` field.
    #[must_use]
    pub fn without(&self, field: &str, preferred: &str) -> Self {
        let mut config = self.clone();
        if let Some(fields) = config.json.as_object_mut().filter(|fields| fields.contains_key(preferred)) {
            fields.remove(field);
            self.read.borrow_mut().insert(field.to_owned());
        }
        config
    }

    /// The error of a value that contradicts the rest of the configuration, or is not supported.
    pub fn contradiction(&self, field: &str, found: &str, supported: &str) -> ModelError {
        self.unsupported(field, found, &[supported])
    }

    /// The error of a missing field.
    pub fn missing(&self, field: &str) -> ModelError {
        self.unsupported(field, "null", &["a number"])
    }

    pub(super) fn unsupported(&self, field: &str, found: &str, supported: &[&str]) -> ModelError {
        ModelError::unsupported(&self.model, &self.file, field, found, supported)
    }
}
