//! The toggles of a run, and the layers that set them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which stages were asked for, and who said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureToggles {
    /// One model at a time holds the device.
    pub exclusive: bool,
    /// Sparse vectors.
    pub sparse: bool,
    /// Rerank.
    pub rerank: bool,
    /// Metrics.
    pub metrics: bool,
    /// The layer that decided each toggle.
    pub sources: BTreeMap<String, String>,
    /// Every resolution, in order.
    pub provenance: Vec<ToggleResolution>,
}

/// One layer's say about one toggle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToggleResolution {
    /// The toggle.
    pub key: String,
    /// Its value in this layer.
    pub value: String,
    /// Where the value stands: a file, a variable, a flag, a field.
    pub source: String,
    /// `default`, `file`, `env` or `spec`.
    pub layer: String,
}
