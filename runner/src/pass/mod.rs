//! One model over many texts.
//!
//! A pass takes the devices alone ([`exclusive`]), loads its model or takes it from the [`model_cache`], and runs it in
//! the [`engine`]: texts are tokenized ahead, cut into token-budget batches ([`batching`]) whose size the [`probe`] and
//! the memory ceiling bound, and the rows return in input order. What a pass loads is compared with the [`pins`] of the
//! revision. [`dense`], [`sparse`] and [`rerank`] are the three
//! kinds of passes, each with its output and its fallback.

pub mod batching;
mod context;
mod cost;
pub mod dense;
pub mod engine;
mod error;
mod exclusive;
mod fallback;
mod job;
mod model_cache;
mod options;
mod pins;
mod probe;
mod record;
pub mod rerank;
mod row_model;
pub mod sparse;
mod sparse_sink;
mod splade_rows;
mod windows;
mod worker;

pub use self::{
    context::PassContext,
    dense::{DenseOutput, fingerprint as dense_fingerprint, load as load_dense},
    engine::run,
    error::PassError,
    fallback::fallback_reason,
    model_cache::ModelCache,
    options::{PassOptions, Replica},
    pins::{ModelKind, ModelPins},
    record::{PassProgress, PassRecord, ReplicaRecord},
    rerank::Pair,
    row_model::RowModel,
    sparse::SparseOutput,
};
