//! The files that a run wrote.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The exported files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportRun {
    /// The URI of the folder of the files.
    pub destination: String,
    /// The committed files, in the order of the plan.
    pub files: Vec<ExportedFile>,
    /// The sum of their sizes, in bytes.
    pub total_bytes: u64,
}

/// An exported file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportedFile {
    /// Its path, relative to the destination.
    pub path: String,
    /// The number of its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sha256 of the file, in hexadecimal.
    pub sha256: String,
}
