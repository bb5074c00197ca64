//! A shard: a contiguous slice of one collection.

use serde::{Deserialize, Serialize};

/// A contiguous slice of one collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The collection.
    pub collection: String,
    /// The ordinal of its first chunk in the collection, from 0.
    pub first_chunk: u64,
    /// The number of its chunks.
    pub chunks: u64,
    /// The number of records without text among them.
    pub skipped: u64,
    /// The position of its first record.
    pub start: Position,
    /// The [`SliceDigest`](super::SliceDigest) of its chunks.
    pub sha256: String,
}

/// The position of a record in a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The index of the file in its collection.
    pub file: usize,
    /// The number of the record in the file, from 0.
    pub record: u64,
}
