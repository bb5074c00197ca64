//! The files of a tokenizer.

use std::path::{Path, PathBuf};

use super::fields::Fields;
use crate::{store, tokenizer::error::TokenizerError};

/// The largest `tokenizer.json`, in bytes; real ones have up to 40 MB.
const MAX_BYTES: u64 = 1 << 29;

/// The files of a tokenizer, and what the other files of the model folder say about it.
#[derive(Debug)]
pub struct TokenizerFiles {
    /// The path of `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`; no fields if there is none.
    pub config: Fields,
    /// `special_tokens_map.json`; no fields if there is none.
    pub special_tokens_map: Fields,
    /// `added_tokens.json`; no fields if there is none.
    pub added_tokens: Fields,
    /// The arguments of the tokenizer in `sentence_bert_config.json`, which override `tokenizer_config.json`.
    pub arguments: Fields,
    /// `model_type` of `config.json`.
    pub model_type: String,
    /// `tokenizer_class` of `config.json`.
    pub model_class: Option<String>,
}

/// The bytes of a `tokenizer.json`.
///
/// # Errors
/// If it cannot be read, is no regular file, or is too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    store::read_regular(path, MAX_BYTES).map_err(|source| TokenizerError::Read { path: path.to_owned(), source })
}
