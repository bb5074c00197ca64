//! The Embedrun operator: reconciles `EmbeddingRun`s into plan, embed and finalize Jobs.
//!
//! Start with [`reconcile`]: it reads as the story of the operator.

pub mod context;
pub mod controller;
pub mod error;
pub mod events;
pub mod http;
pub mod leader;
pub mod metrics;
pub mod reconcile;
pub mod settings;
