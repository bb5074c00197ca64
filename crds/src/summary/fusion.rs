//! The fused vector of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fused vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FusionRun {
    /// The column.
    pub column: String,
    /// `WeightedConcat` or `WeightedMean`.
    pub method: String,
    /// The models that are in it with their share, which add up to 1.
    pub models: Vec<FusedModel>,
    /// The width of the vector.
    pub dimensions: u32,
    /// Time, in seconds.
    pub seconds: f64,
}

/// A model in a fused vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FusedModel {
    /// Its name.
    pub model: String,
    /// Its share.
    pub share: f64,
}
