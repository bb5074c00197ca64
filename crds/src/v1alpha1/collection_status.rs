//! The result of one collection, as the status has it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{stage_status::StageStatus, summary_ref::SummaryRef};

/// One collection of a run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CollectionStatus {
    /// The name of the collection.
    pub name: String,
    /// What happened to its chunks.
    pub chunks: ChunkCounts,
    /// The dense passes, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<DenseModelStatus>,
    /// The sparse stage; absent where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<StageStatus>,
    /// The rerank stage; absent where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<StageStatus>,
    /// The quality of the last list that was made, by metric; only where judgements are given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub quality: BTreeMap<String, String>,
    /// The summary of the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryRef>,
}

/// What happened to the chunks of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChunkCounts {
    /// Chunks planned.
    pub total: u64,
    /// Chunks embedded by this revision.
    pub embedded: u64,
    /// Chunks whose vectors were taken over.
    #[serde(default)]
    pub reused: u64,
    /// Chunks longer than a model takes, cut; the largest count among the models.
    #[serde(default)]
    pub truncated: u64,
    /// Chunks without text, left out.
    #[serde(default)]
    pub skipped: u64,
}

/// One dense model over one collection.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DenseModelStatus {
    /// The name of the model.
    pub model: String,
    /// The width of its vectors.
    pub dimensions: u32,
    /// Tokens embedded.
    pub tokens: u64,
    /// Time of the passes over all shards, in whole seconds.
    pub seconds: u64,
}
