//! The files that a run wrote.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportRun {
    /// The place of the files, as the spec names it.
    pub destination: String,
    /// The files that count, in the order of the plan.
    pub files: Vec<ExportedFile>,
    /// Their sizes added up, in bytes.
    pub total_bytes: u64,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportedFile {
    /// Its path below the destination.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}
