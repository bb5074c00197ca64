//! The toggles of a run, and the layers that set them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The resolved toggles, and the layers that set them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureToggles {
    /// Whether only one model at a time is loaded on the device.
    pub exclusive: bool,
    /// Whether sparse vectors are computed.
    pub sparse: bool,
    /// Whether candidates are reranked.
    pub rerank: bool,
    /// Whether the runner serves metrics.
    pub metrics: bool,
    /// The layer that decided each toggle, by key.
    pub sources: BTreeMap<String, String>,
    /// Every value of every layer, in the order of resolution.
    pub provenance: Vec<ToggleResolution>,
}

/// The value of one toggle in one layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToggleResolution {
    /// The key of the toggle.
    pub key: String,
    /// The value in this layer.
    pub value: String,
    /// The origin of the value: a file, an environment variable, a flag or a field.
    pub source: String,
    /// The layer: `default`, `file`, `env` or `spec`.
    pub layer: String,
}
