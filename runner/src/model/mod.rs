//! Models: open the folder, check it, build the encoder and its head; then compute batches.
//!
//! [`architecture`] has a file per architecture, [`transformer`] what they are made of, [`head`] what is done with the
//! hidden states.

pub mod architecture;
mod dense;
mod error;
mod folder;
mod head;
#[cfg(test)]
mod on_device;
mod reranker;
mod sparse;
mod terms;
pub mod transformer;
mod weights;

pub use self::{
    dense::{DenseModel, DenseOptions, Side},
    error::ModelError,
    reranker::{Pair, Reranker, Score},
    sparse::{SparseModel, SparseOptions, SparseRow, SparseVector},
    terms::MetadataTerms,
    weights::{Weights, natural_dtype},
};
pub use crate::ops::Pooling;
