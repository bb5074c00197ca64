//! Encoded texts.

/// The special tokens that a model needs around a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Special tokens are required: without them the vectors are meaningless.
    Required,
    /// Those that the tokenizer adds; that may be none.
    AsTokenizer,
    /// None, even if the tokenizer adds some.
    Never,
}

/// The longest sequences in tokens, special tokens included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxTokens {
    /// Of a document.
    pub document: usize,
    /// Of a query.
    pub query: usize,
    /// Of a pair.
    pub pair: usize,
}

impl MaxTokens {
    /// The same length for all.
    pub fn all(length: usize) -> Self {
        Self { document: length, query: length, pair: length }
    }
}

/// One encoded text, or pair of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The token ids, special tokens included.
    pub ids: Vec<u32>,
    /// The token types (segments) of the ids; empty if all are 0.
    pub types: Vec<u32>,
    /// The number of tokens that truncation removed.
    pub lost: usize,
    /// The number of tokens at the beginning that pooling excludes: those of a prompt, if the model is configured so.
    pub unpooled: usize,
}
