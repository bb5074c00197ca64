//! Errors of tokenizers: a tokenizer cannot be used, or a text cannot be encoded.

use std::{io, path::PathBuf};

/// The cause of an error inside the tokenizers library.
pub type TokenizersError = Box<dyn std::error::Error + Send + Sync>;

/// Why a tokenizer cannot be used, or a text not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// The file is not a tokenizer.
    #[error("{} cannot be read as a tokenizer", path.display())]
    Open {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The error of the tokenizers library.
        #[source]
        source: TokenizersError,
    },
    /// No special tokens mark the beginning and the end of a text, which an encoder needs.
    #[error("{} adds no special tokens to a text: its post_processor is missing; use the tokenizer.json of the published model", path.display())]
    NoSpecialTokens {
        /// The `tokenizer.json`.
        path: PathBuf,
    },
    /// The special tokens alone fill a sequence.
    #[error("max tokens is {max_tokens}, but {special} of them are special tokens: at least {} are required", special + 1)]
    NoRoom {
        /// The longest sequence.
        max_tokens: usize,
        /// The special tokens of every sequence.
        special: usize,
    },
    /// A text has no tokens, and the tokenizer adds none.
    #[error("the text of row {row} has no token")]
    NoTokens {
        /// The row among the given texts, from 0.
        row: usize,
    },
    /// A text cannot be encoded.
    #[error("the text of row {row} cannot be encoded")]
    Encode {
        /// The row among the given texts, from 0.
        row: usize,
        /// The error of the tokenizers library.
        #[source]
        source: TokenizersError,
    },
}
