//! The process: errors, logs, metrics, spans, progress and interrupts. It does not depend on the pipeline.

pub mod contained;
pub mod error;
pub mod interrupt;
pub mod log;
pub mod message;
pub mod metrics;
pub mod printable;
pub mod progress;
pub mod runtime;
pub mod telemetry;
