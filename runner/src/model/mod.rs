//! Models: open the folder, check it, build the encoder and its head, compute batches.
//!
//! [`folder`] reads the settings of a model folder, [`weights`] its tensors; a model is opened and checked by its settings
//! before its weights are read, in the plan and at the beginning of every load; [`architecture`] has a file per architecture and
//! [`transformer`] the layers that they are made of; [`head`] turns hidden states into vectors, logits and scores. The three
//! kinds of model are [`DenseEncoder`], [`SpladeModel`] and [`CrossEncoder`].
//!
//! Nothing is guessed: a setting that the runner does not implement is rejected with its file, field and value.

pub mod architecture;
mod chat_template;
pub mod config;
mod config_keys;
mod cross_encoder;
mod cross_folder;
mod dense_encoder;
mod dense_folder;
mod error;
mod files;
pub mod folder;
mod head;
mod loading;
mod metadata_terms;
#[cfg(test)]
mod on_device;
mod options;
mod splade;
pub mod transformer;
pub mod weights;

pub use self::{
    cross_encoder::{CrossEncoder, Score},
    dense_encoder::DenseEncoder,
    error::ModelError,
    loading::Checked,
    metadata_terms::MetadataTerms,
    options::{DenseOptions, Side},
    splade::{SparseOptions, SpladeModel},
    weights::Weights,
};
pub use crate::ops::Pooling;
