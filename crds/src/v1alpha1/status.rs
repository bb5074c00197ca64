//! What happened, as the operator reports it. The output store is the truth; this is its index.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// One stage that can fall back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// For the printer column: `Disabled`, `Pending`, `Executed`, the reason of the fallback, or `Unfinished` where the
    /// run failed before it said what the stage did.
    pub state: String,
    /// Whether the stage was asked for.
    pub enabled: bool,
    /// Whether the stage did anything of what was asked.
    pub executed: bool,
    /// Why it did less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// Where that arose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_source: Option<FallbackSource>,
    /// How often it did less.
    #[serde(default)]
    pub fallback_count: u64,
    /// Time of the stage, in seconds; shards that ran side by side are added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_seconds: Option<String>,
    /// Of the sparse stage, the share of rows whose vector the model made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<String>,
    /// Of the rerank stage, the candidates that were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
}

impl StageStatus {
    /// A stage that was not asked for.
    pub fn disabled() -> Self {
        Self {
            state: "Disabled".into(),
            enabled: false,
            executed: false,
            fallback_reason: None,
            fallback_source: None,
            fallback_count: 0,
            latency_seconds: None,
            coverage: None,
            candidates: None,
        }
    }

    /// A stage that was asked for and has not run yet.
    pub fn pending() -> Self {
        Self { state: "Pending".into(), enabled: true, ..Self::disabled() }
    }

    /// A stage that was asked for in a run that failed before it said what the stage did.
    pub fn unfinished() -> Self {
        Self { state: "Unfinished".into(), ..Self::pending() }
    }

    /// A stage that did what was asked.
    pub fn executed() -> Self {
        Self { state: "Executed".into(), executed: true, ..Self::pending() }
    }

    /// A stage that was asked for and did less.
    pub fn fell_back(reason: FallbackReason, source: FallbackSource, count: u64) -> Self {
        Self {
            state: reason.to_string(),
            fallback_reason: Some(reason),
            fallback_source: Some(source),
            fallback_count: count,
            ..Self::pending()
        }
    }
}

/// Why a stage did less than was asked. Anything else is not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum FallbackReason {
    /// A toggle switched it off.
    FeatureDisabled,
    /// There was nothing to work on.
    NoCandidates,
    /// The model could not be loaded.
    ModelUnavailable,
    /// It ran on another device than asked for.
    DeviceFallback,
    /// The device had too little memory.
    OutOfMemory,
    /// It failed while running.
    ExecutionFailed,
    /// There were no queries.
    NoQueries,
}

impl FallbackReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::FeatureDisabled,
        Self::NoCandidates,
        Self::ModelUnavailable,
        Self::DeviceFallback,
        Self::OutOfMemory,
        Self::ExecutionFailed,
        Self::NoQueries,
    ];
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where a fallback arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FallbackSource {
    /// In a toggle.
    Toggle,
    /// In the input: the chunks or the queries.
    Input,
    /// While a model was loaded.
    Load,
    /// While a stage ran.
    Runtime,
}

impl FallbackSource {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Toggle, Self::Input, Self::Load, Self::Runtime];
}

impl fmt::Display for FallbackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Toggle => "toggle",
            Self::Input => "input",
            Self::Load => "load",
            Self::Runtime => "runtime",
        })
    }
}

/// Where a summary lies.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SummaryRef {
    /// Where it lies, as users name the place.
    pub uri: String,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}

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
