//! Fallbacks of stages and of models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{FallbackReason, FallbackSource};

/// A model that fell back, summed over the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFallback {
    /// The model's name.
    pub model: String,
    /// Why, where and how often it fell back.
    #[serde(flatten)]
    pub fallback: Fallback,
    /// The first error that caused the fallback.
    pub message: String,
}

/// Why, where and how often a stage fell back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fallback {
    /// The reason.
    pub reason: FallbackReason,
    /// Where the cause is.
    pub source: FallbackSource,
    /// The number of fallbacks.
    pub count: u64,
}
