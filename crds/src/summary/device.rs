//! The device of a run: requested and used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::FallbackReason;

/// The requested device and the devices that were used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRun {
    /// The requested device: `cuda` or `cpu`.
    pub requested: String,
    /// The devices that were used.
    pub used: Vec<String>,
    /// Why another device was used than requested, or fewer devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// The number of shards and reranks with this fallback.
    pub fallback_count: u64,
}
