//! What happened, as the operator reports it. The output store is the truth; this is its index.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{collection_status::CollectionStatus, stage_status::StageStatus, summary_ref::SummaryRef};

/// The status of an `EmbeddingRun`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddingRunStatus {
    /// The generation of the spec that this status is about.
    #[serde(default)]
    pub observed_generation: i64,
    /// Derived from the conditions, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The revision that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// How the revision ended, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// When the revision was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When the revision ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// How far the revision is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The rerank stage of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<StageStatus>,
    /// The sparse stage of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<StageStatus>,
    /// The device stage of the run: whether the accelerator that was asked for was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<StageStatus>,
    /// The ensemble: present where an optional model was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense: Option<StageStatus>,
    /// The summary of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryRef>,
    /// The collections, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<CollectionStatus>,
    /// Finished revisions, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// The conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    /// Nothing runs yet.
    Pending,
    /// The plan Job is at work.
    Planning,
    /// The embed Job is at work.
    Embedding,
    /// The finalize Job is at work.
    Finalizing,
    /// The revision is complete.
    Succeeded,
    /// The revision has failed.
    Failed,
    /// The run is suspended.
    Suspended,
}

impl Phase {
    /// Every phase, in the order of a run.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Planning,
        Self::Embedding,
        Self::Finalizing,
        Self::Succeeded,
        Self::Failed,
        Self::Suspended,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How a revision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Outcome {
    /// Every shard is committed and the summary is written.
    Succeeded,
    /// It ended without a result; what was committed stays.
    Failed,
}

/// How far a revision is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// For the printer column: `3/12 shards`.
    pub display: String,
    /// Share of the shards that are done, 0 to 100.
    pub percent: u32,
    /// Shards committed.
    pub shards_done: u32,
    /// Shards planned.
    pub shards_total: u32,
    /// Shards given up.
    #[serde(default)]
    pub shards_failed: u32,
    /// Chunks planned.
    pub chunks_total: u64,
}

/// A finished revision.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The revision.
    pub revision: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so.
    pub reason: String,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Its summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryRef>,
}
