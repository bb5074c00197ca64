//! A reference to a summary in the output store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A reference to a summary in the output store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SummaryRef {
    /// The URI of the summary, for example `pvc://vectors/handbook/runs/REVISION/processing_summary.json`.
    pub uri: String,
    /// The sha256 of the file, in hexadecimal.
    pub sha256: String,
}
