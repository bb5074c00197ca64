//! From the plan and the commit markers to the summaries, and from the summaries to the result of the run.
//!
//! [`build`] makes a summary of plain data, [`shards`] and [`collections`] add up what the shards and the collections
//! recorded, [`telemetry`] the spans and metrics, [`result`] is what the operator learns. Only [`stored`] does I/O.

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
