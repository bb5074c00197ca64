//! The calls of the tokenizers library that read a file or a text: it panics on some files, for example on a table of
//! characters (`Precompiled`) that is damaged, when it reads them or when a text first meets the damage.

use serde_json::Value;
use tokenizers::{EncodeInput, Encoding};

use super::error::TokenizersError;
use crate::process::contained::contained;

/// Reads the bytes of a `tokenizer.json`.
pub(super) fn from_bytes(bytes: Vec<u8>) -> Result<tokenizers::Tokenizer, TokenizersError> {
    contained(|| tokenizers::Tokenizer::from_bytes(bytes)).unwrap_or_else(invalid)
}

/// Makes a tokenizer of the content of a `tokenizer.json`.
pub(super) fn from_json(content: Value) -> Result<tokenizers::Tokenizer, TokenizersError> {
    contained(|| serde_json::from_value(content).map_err(Into::into)).unwrap_or_else(invalid)
}

/// Encodes a text or a pair of texts.
pub(super) fn encode<'a>(
    tokenizer: &tokenizers::Tokenizer,
    input: impl Into<EncodeInput<'a>>,
    add_special_tokens: bool,
) -> Result<Encoding, TokenizersError> {
    contained(|| tokenizer.encode_fast(input, add_special_tokens)).unwrap_or_else(invalid)
}

fn invalid<T>(message: String) -> Result<T, TokenizersError> {
    Err(format!("the tokenizers library failed: {message}").into())
}
