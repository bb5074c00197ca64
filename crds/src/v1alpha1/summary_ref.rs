//! A reference to a summary in the output store.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a summary lies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SummaryRef {
    /// Where it lies, as users name the place.
    pub uri: String,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}
