//! The run that a summary belongs to, and its collections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The run that a summary belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// Its namespace; empty on one machine.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: String,
    /// The version of the runner.
    pub runner_version: String,
}

/// Where the summary of a collection lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollectionPointer {
    /// The collection.
    pub name: String,
    /// Chunks embedded.
    pub chunk_count: u64,
    /// Where its summary lies.
    pub summary: String,
    /// The sha256 of the summary's bytes, in hexadecimal.
    pub sha256: String,
}
