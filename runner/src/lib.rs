//! The Embedrun runner: turns collections of text into vectors.
//!
//! [`pipeline`] tells the story, [`stage`] has its parts.

pub mod batch;
pub mod batched;
pub mod cli;
pub mod config;
pub mod error;
pub mod fusion;
pub mod gpu;
pub mod hub;
pub mod interrupt;
pub mod log;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod ops;
pub mod pipeline;
pub mod plan;
pub mod precision;
pub mod progress;
pub mod quality;
pub mod queries;
pub mod resident;
pub mod result;
pub mod retrieve;
pub mod scratch;
pub mod search;
pub mod source;
pub mod stage;
pub mod store;
pub mod summary;
pub mod telemetry;
pub mod text;
pub mod toggles;
