//! From the plan and the commit markers to the summaries, and from the summaries to the result of the run.
//!
//! [`build`] makes a summary of plain data. [`shards`] and [`collections`] add up the records of shards and
//! collections, [`telemetry`] the spans and metrics. [`result`] is the result for the operator. Only [`stored`] does
//! I/O.

mod build;
mod collections;
mod result;
mod shards;
mod stored;
mod telemetry;
mod warnings;

pub use self::{
    build::{of_collection, of_run},
    result::result,
    stored::{StoredSummary, read, write},
};
