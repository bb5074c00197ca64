//! The calls of the tokenizers library that read a file or a text: it panics on some files, for example on a table of
//! characters (`Precompiled`) that is damaged, when it reads them or when a text first meets the damage.

use serde_json::Value;
use tokenizers::{EncodeInput, Encoding};

use super::error::TokenizersError;
use crate::process::contained::contained;

/// Reads the bytes of a `tokenizer.json`.
pub(super) fn from_bytes(bytes: &[u8]) -> Result<tokenizers::Tokenizer, TokenizersError> {
    guard(|| tokenizers::Tokenizer::from_bytes(bytes))
}

/// Makes a tokenizer of the content of a `tokenizer.json`.
pub(super) fn from_json(content: Value) -> Result<tokenizers::Tokenizer, TokenizersError> {
    guard(|| serde_json::from_value(content).map_err(Into::into))
}

/// Encodes a text or a pair of texts.
pub(super) fn encode<'a>(
    tokenizer: &tokenizers::Tokenizer,
    input: impl Into<EncodeInput<'a>>,
    add_special_tokens: bool,
) -> Result<Encoding, TokenizersError> {
    guard(|| tokenizer.encode_fast(input, add_special_tokens))
}

/// What `call`, which uses the library, returns; a panic is an error.
pub(super) fn guard<T>(call: impl FnOnce() -> Result<T, TokenizersError>) -> Result<T, TokenizersError> {
    contained(call).unwrap_or_else(|message| Err(format!("the tokenizers library failed: {message}").into()))
}
