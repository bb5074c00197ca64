//! The device of a run: requested and used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::FallbackReason;

/// The device that was asked for and the one that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRun {
    /// `cuda` or `cpu`.
    pub requested: String,
    /// The devices that were used.
    pub used: Vec<String>,
    /// Why it was another one, or why there were fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// In how many shards and reranks.
    pub fallback_count: u64,
}
