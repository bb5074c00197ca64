//! The process itself: how it fails, logs, measures, reports progress and stops. Knows nothing of the pipeline.

pub mod error;
pub mod interrupt;
pub mod log;
pub mod message;
pub mod metrics;
pub mod progress;
pub mod runtime;
pub mod telemetry;
