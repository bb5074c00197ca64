//! Text to token ids, with an exact account of what truncation costs.
//!
//! The text is passed to the tokenizer unchanged: whitespace and case are the user's, and what the tokenizer's own normalizer
//! does with them is part of the model. [`pretrained`] opens the tokenizer of a model folder, [`encode`] applies it.

mod encode;
mod error;
mod library;
mod pieces;
mod pretrained;
mod tokens;
mod truncation;

pub use self::{
    encode::{Tokenizer, encode_in_parallel},
    error::{TokenizerError, TokenizersError},
    pretrained::{Fields, Pretrained, TokenizerFiles},
    tokens::{MaxTokens, SpecialTokens, Tokens},
};
