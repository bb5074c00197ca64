//! The plan: the immutable list of the shards of a revision.
//!
//! Everything is read once ([`build`]): chunks are counted, cut into shards, and duplicate ids are found. That takes 16 bytes
//! of memory per chunk, and no text. [`changes`] compares the sources with the plan of a complete revision.

mod build;
mod changes;
mod document;
mod headings;
mod model_files;
mod shard;
mod slicer;

pub use self::{
    changes::source_changes,
    document::{PLAN_VERSION, Plan, PlannedCollection, PlannedFile},
    model_files::ModelFiles,
    shard::{Position, Shard},
    slicer::SliceDigest,
};
