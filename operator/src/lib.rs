//! The Embedrun operator: reconciles `EmbeddingRun`s into plan, embed and finalize Jobs.
//!
//! Start with [`reconcile`]: it tells the story of one reconciliation.

pub mod context;
pub mod controller;
pub mod error;
pub mod http;
pub mod leader;
pub mod metrics;
pub mod reconcile;
pub mod settings;
