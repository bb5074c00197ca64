//! The status of one collection: its result.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{similarity::Similarity, stage_status::StageStatus, summary_ref::SummaryRef};

/// The result of one collection.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionStatus {
    /// The name of the collection.
    pub name: String,
    /// The number of its chunks, by outcome.
    pub chunks: ChunkCounts,
    /// The dense passes, in the order of the spec; without models that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<DenseModelStatus>,
    /// The sparse stage; absent if it was not requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<StageStatus>,
    /// The rerank stage; absent if it was not requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<StageStatus>,
    /// The retrieval quality by metric, of the reranked candidates, or of the retrieved ones if nothing was reranked.
    /// Only if the queries have judgements.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<String, String>,
    /// The summary of the collection in the output store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryRef>,
}

/// The number of a collection's chunks, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChunkCounts {
    /// Chunks in the plan.
    pub total: u64,
    /// Chunks embedded by this revision.
    pub embedded: u64,
    /// Chunks whose vectors were reused from another revision.
    #[serde(default)]
    pub reused: u64,
    /// Chunks that were longer than a model supports and were truncated; the largest count among the models.
    #[serde(default)]
    pub truncated: u64,
    /// Chunks without text, which are not embedded.
    #[serde(default)]
    pub skipped: u64,
}

/// The pass of one dense model over one collection.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DenseModelStatus {
    /// The name of the model.
    pub model: String,
    /// The number of dimensions of its vectors.
    pub dimensions: u32,
    /// The number of embedded tokens.
    pub tokens: u64,
    /// The time of the passes over all shards, in whole seconds.
    pub seconds: u64,
    /// How the vectors are compared: the function that the model was made for.
    #[serde(default)]
    pub similarity: Similarity,
}
