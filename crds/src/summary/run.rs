//! The run that a summary belongs to, and its collections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The run that a summary belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// Its namespace; empty outside a cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: String,
    /// The version of the runner.
    pub runner_version: String,
}

/// A reference to the summary of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollectionPointer {
    /// The name of the collection.
    pub name: String,
    /// Embedded chunks.
    pub chunk_count: u64,
    /// The URI of its summary.
    pub summary: String,
    /// The sha256 of the summary file, in hexadecimal.
    pub sha256: String,
}
