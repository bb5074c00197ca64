//! What the runner answers.

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::{
    identity::Revision,
    v1alpha1::{FallbackReason, FallbackSource},
};

/// What a stage did, as the container's termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// [`CONTRACT_VERSION`].
    pub version: u32,
    /// The revision that it belongs to.
    pub revision: Revision,
    /// What happened.
    pub outcome: StageOutcome,
}

/// What happened in a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StageOutcome {
    /// The plan is written.
    Planned(PlanResult),
    /// A shard is committed.
    Embedded(ShardResult),
    /// The summaries are written.
    Finalized(FinalizeResult),
    /// The stage failed.
    Failed(Failure),
}

/// What the plan stage found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanResult {
    /// Shards in the plan.
    pub shards: u32,
    /// Chunks in the plan.
    pub chunks: u64,
    /// The whole result, where the store already holds this revision complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<FinalizeResult>,
}

/// What one shard gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardResult {
    /// The index of the shard in the plan.
    pub shard: u32,
    /// Chunks committed.
    pub chunks: u64,
    /// Whether an earlier attempt had committed it already.
    pub already_committed: bool,
}

/// What a run gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinalizeResult {
    /// The sha256 of the run's summary, in hexadecimal.
    pub summary_sha256: String,
    /// The sums over all collections.
    pub totals: CollectionResult,
    /// How often a pod computed on another device than asked for.
    #[serde(default)]
    pub device_fallbacks: u64,
    /// How often a model of the ensemble was left out because it failed, and why; by shard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense_fallback: Option<StageFallback>,
    /// The collections in the order of the spec, as many as fit into the message.
    pub collections: Vec<CollectionResult>,
    /// How many collections did not fit; the summary has them all.
    #[serde(default)]
    pub omitted: u32,
}

/// What one collection gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionResult {
    /// Chunks in the plan.
    pub chunks: u64,
    /// Chunks embedded.
    pub embedded: u64,
    /// Chunks cut, the largest count among the models.
    pub truncated: u64,
    /// Chunks without text, left out.
    pub skipped: u64,
    /// The sha256 of the collection's summary, in hexadecimal; empty in the totals.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary_sha256: String,
    /// The dense passes, one per model in the order of the spec; that of a model that was left out is all zeros.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<DenseResult>,
    /// The sparse stage; absent where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<StageResult>,
    /// The rerank stage; absent where it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<StageResult>,
    /// The quality of the last list that was made: the name of the metric and its value in thousandths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<(String, u16)>,
}

/// What a stage that can fall back gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageResult {
    /// Whether it was asked for.
    pub enabled: bool,
    /// Whether it did anything of what was asked.
    pub executed: bool,
    /// Why it did less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<StageFallback>,
    /// Of the sparse stage, the share of rows whose vector the model made, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<u16>,
    /// Of the rerank stage, the candidates that were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
    /// Time of the stage, in milliseconds; shards that ran side by side are added up.
    #[serde(default)]
    pub millis: u64,
}

/// Why a stage did less than was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageFallback {
    /// The reason.
    pub reason: FallbackReason,
    /// Where it arose.
    pub source: FallbackSource,
    /// How often.
    pub count: u64,
}

/// What one dense model gave for one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenseResult {
    /// The width of the vectors.
    pub dimensions: u32,
    /// Tokens embedded.
    pub tokens: u64,
    /// Time of the passes over all shards, in whole seconds.
    pub seconds: u64,
}

impl FinalizeResult {
    /// The reason of the device fallback, if there was one.
    pub fn device_fallback(&self) -> Option<FallbackReason> {
        (self.device_fallbacks > 0).then_some(FallbackReason::DeviceFallback)
    }
}
