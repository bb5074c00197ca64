//! The fused vector of a run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dtype;
use crate::v1alpha1::Similarity;

/// The fused vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FusionRun {
    /// The name of the column.
    pub column: String,
    /// `WeightedConcat` or `WeightedMean`.
    pub method: String,
    /// The fused models and their shares; the shares add up to 1.
    pub models: Vec<FusedModel>,
    /// The number of dimensions of the vector.
    pub dimensions: u32,
    /// The type of the stored vectors, same as for a dense model.
    #[serde(default = "dtype::f32_name")]
    pub precision: String,
    /// How the vectors are compared.
    #[serde(default)]
    pub similarity: Similarity,
    /// The time of the fusion in seconds, summed over shards.
    pub seconds: f64,
}

/// A model in a fused vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FusedModel {
    /// The name of the model.
    pub model: String,
    /// The share of the model, 0 to 1.
    pub share: f64,
}
