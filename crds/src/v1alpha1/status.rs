//! The status of a run, as the operator reports it. The output store is the truth; the status is its index.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{collection_status::CollectionStatus, stage_status::StageStatus, summary_ref::SummaryRef};

/// The status of an `EmbeddingRun`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EmbeddingRunStatus {
    /// The generation of the spec that this status describes; -1 until the operator has seen the object.
    #[serde(default)]
    pub observed_generation: i64,
    /// A summary of the conditions, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The revision that this status describes: a hash of the identity fields of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The first ten digits of the revision, as in the names of its Jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_revision: Option<String>,
    /// How the revision ended; absent until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The time at which the revision started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// The time at which the revision ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The progress of the revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// The rerank stage, over all collections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<StageStatus>,
    /// The sparse stage, over all collections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<StageStatus>,
    /// Whether the requested accelerators were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<StageStatus>,
    /// The dense stage; present only if an optional model was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense: Option<StageStatus>,
    /// The summary of the run in the output store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryRef>,
    /// The collections, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<CollectionStatus>,
    /// Finished revisions, the latest first; at most `spec.historyLimit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
    /// The conditions, one of each type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The phase of the run, derived from the conditions, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Phase {
    /// No Job is active yet.
    Pending,
    /// The plan Job is active.
    Planning,
    /// The embed Job is active.
    Embedding,
    /// The finalize Job is active.
    Finalizing,
    /// The revision is complete.
    Succeeded,
    /// The revision failed, or the spec was rejected.
    Failed,
    /// The run is suspended.
    Suspended,
}

impl Phase {
    /// All phases, in the order of a run.
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

/// How the revision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Outcome {
    /// Every shard is committed and the summary is written.
    Succeeded,
    /// The revision ended without a result; committed shards are kept.
    Failed,
}

/// The progress of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// For the printer column, for example `3/12 shards`.
    pub display: String,
    /// The share of committed shards, 0 to 100.
    pub percent: u32,
    /// The number of committed shards.
    pub shards_done: u32,
    /// The number of shards in the plan.
    pub shards_total: u32,
    /// The number of shards that failed for good.
    #[serde(default)]
    pub shards_failed: u32,
    /// The number of chunks in the plan.
    pub chunks_total: u64,
}

/// A finished revision.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// The revision that ended.
    pub revision: String,
    /// How the revision ended.
    pub outcome: Outcome,
    /// The reason of the outcome.
    pub reason: String,
    /// The time at which the revision started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// The time at which the revision ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// The summary of the run in the output store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<SummaryRef>,
}
