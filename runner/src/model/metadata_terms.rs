//! Sparse vectors of the terms in a chunk's metadata, for chunks that the sparse model failed on. They share the index space
//! of the model, because its tokenizer splits the terms.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, value::RawValue};

use super::{ModelError, SparseOptions, config::Config, folder::ModelFolder, loading::tokenizer_digest};
use crate::{
    tokenizer::{MaxTokens, Pretrained, SpecialTokens, Tokenizer},
    vectors::SparseVector,
};

/// The fields of the metadata that describe the content of a chunk.
const FIELDS: [&str; 9] =
    ["title", "heading", "headings", "section", "keywords", "tags", "topics", "categories", "summary"];

/// Computes vectors with the tokenizer of a sparse model; its weights are not needed.
pub struct MetadataTerms {
    name: String,
    tokenizer: Tokenizer,
    tokenizer_digest: String,
    options: SparseOptions,
}

impl MetadataTerms {
    /// Opens the tokenizer of the model in `dir`.
    ///
    /// # Errors
    /// If the tokenizer is missing or invalid.
    pub fn open(name: &str, dir: &Path, options: SparseOptions) -> Result<Self, ModelError> {
        let folder = ModelFolder::open(name, dir)?;
        let config = match folder.config() {
            // The tokenizer may be there although the model is not.
            Err(ModelError::FileMissing { file, .. }) => Config::new(name, &file, Value::Null),
            config => config?,
        };
        let files = folder.tokenizer_files(&config)?;
        let open = || {
            let mut pretrained = Pretrained::of_folder(&files)?;
            if folder.settings.lower_case {
                pretrained.lower_case()?;
            }
            Tokenizer::new(pretrained, MaxTokens::all(usize::MAX), SpecialTokens::Never, usize::MAX)
        };
        let tokenizer = open().map_err(|source| ModelError::tokenizer(name, source))?;
        Ok(Self { name: name.to_owned(), tokenizer, tokenizer_digest: tokenizer_digest(&folder)?, options })
    }

    /// The sha256 of the tokenizer's file, in hexadecimal.
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// The size of the index space.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.vocabulary()
    }

    /// The vector of a chunk's metadata, which is JSON: a term that occurs n times has the weight ln(1 + n). The vector is
    /// empty if no known field has text.
    ///
    /// # Errors
    /// If a text cannot be encoded.
    pub fn vector(&self, metadata: &str) -> Result<SparseVector, ModelError> {
        // Only the known fields are parsed: another one may hold a number that no float can.
        let metadata: BTreeMap<String, &RawValue> = serde_json::from_str(metadata).unwrap_or_default();
        let mut counts = BTreeMap::<u32, f32>::new();
        let fields = FIELDS.iter().filter_map(|field| serde_json::from_str(metadata.get(*field)?.get()).ok());
        for text in fields.collect::<Vec<Value>>().iter().flat_map(texts) {
            let ids = self.tokenizer.ids(text).map_err(|source| ModelError::tokenizer(&self.name, source))?;
            for id in ids {
                *counts.entry(id).or_default() += 1.0;
            }
        }
        let entries = counts.into_iter().map(|(id, count)| (id, count.ln_1p()));
        Ok(SparseVector::of_entries(entries, self.options.threshold, self.options.top_k))
    }
}

/// The texts of a value: a string, or the strings of a list.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}
