//! The plan: the immutable list of the shards of a revision.
//!
//! Everything is read once ([`build`]): chunks are counted, cut into shards, and duplicate ids are found. That takes 16 bytes
//! of memory per chunk, and no text.

mod build;
mod document;
mod headings;
mod model_files;
mod shard;
mod slicer;

pub use self::{
    document::{PLAN_VERSION, Plan, PlannedCollection, PlannedFile},
    model_files::ModelFiles,
    shard::{Position, Shard},
    slicer::SliceDigest,
};
