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
    /// A file beside it has a setting that the runner does not implement.
    #[error("{} has {field} {found}; supported: {supported}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The field of the file.
        field: Box<str>,
        /// The value of the field, as JSON.
        found: Box<str>,
        /// The supported values.
        supported: Box<str>,
    },
    /// A file beside it has a field that is neither implemented nor known to have no effect.
    #[error(
        "{} has the field {field} with the value {value}, which this release does not know and which may change the \
         results; remove the field if it does not, or use a release that implements it",
        path.display()
    )]
    UnknownField {
        /// The file.
        path: PathBuf,
        /// The path of the field.
        field: String,
        /// Its value as JSON.
        value: String,
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
    /// A text has a token that the model has no vector for.
    #[error(
        "the text of row {row} has token {token:?} (id {id}), but the model has vectors for {rows} tokens; remove it from the text"
    )]
    NoVector {
        /// The row among the given texts, from 0.
        row: usize,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// The rows of the word embedding.
        rows: usize,
    },
    /// The tokenizer adds a token to every text that the model has no vector for.
    #[error(
        "{} adds token {token:?} (id {id}) to every text, but the model has vectors for {rows} tokens; tokenizer and weights are of different models",
        path.display()
    )]
    NoVectorOfSpecial {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// The rows of the word embedding.
        rows: usize,
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
