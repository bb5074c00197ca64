//! Fallbacks of stages and of models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{FallbackReason, FallbackSource};

/// A model that did less than was asked, summed over the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFallback {
    /// The model's name.
    pub model: String,
    /// Why.
    #[serde(flatten)]
    pub fallback: Fallback,
    /// The first error, as a sentence.
    pub message: String,
}

/// Why a stage did less than was asked, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fallback {
    /// The reason.
    pub reason: FallbackReason,
    /// Where it arose.
    pub source: FallbackSource,
    /// How often.
    pub count: u64,
}
