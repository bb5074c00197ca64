//! The result of a stage, which the runner reports to the operator.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use crate::{
    identity::Revision,
    v1alpha1::{FallbackReason, FallbackSource, Similarity},
};

/// The result of a stage, sent as the container's termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunResult {
    /// [`CONTRACT_VERSION`](super::interface::CONTRACT_VERSION).
    pub version: u32,
    /// The revision that the stage worked on.
    pub revision: Revision,
    /// How the stage ended.
    pub outcome: StageOutcome,
}

/// How a stage ended.
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

/// The result of the plan stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanResult {
    /// Shards in the plan.
    pub shards: u32,
    /// Chunks in the plan.
    pub chunks: u64,
    /// The result of the run, if the store already holds this revision complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<FinalizeResult>,
}

/// The result of one shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShardResult {
    /// The index of the shard in the plan.
    pub shard: u32,
    /// Committed chunks.
    pub chunks: u64,
    /// Whether an earlier attempt already committed the shard.
    pub already_committed: bool,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FinalizeResult {
    /// The sha256 of the run's summary, in hexadecimal.
    pub summary_sha256: String,
    /// The sums over all collections.
    pub totals: CollectionResult,
    /// The number of shards and reranks that did not run on all the requested devices.
    #[serde(default)]
    pub device_fallbacks: u64,
    /// Why and in how many shards an optional dense model was left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense_fallback: Option<StageFallback>,
    /// The collections in the order of the spec, as many as fit into the termination message.
    pub collections: Vec<CollectionResult>,
    /// The number of collections that did not fit. The summary contains all of them.
    #[serde(default)]
    pub omitted: u32,
    /// Set if the revision was complete before, and its sources or queries have changed since it was planned: one
    /// sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_changed: Option<String>,
}

/// The result of one collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectionResult {
    /// Chunks in the plan.
    pub chunks: u64,
    /// Embedded chunks.
    pub embedded: u64,
    /// Truncated chunks; the largest count among the models.
    pub truncated: u64,
    /// Chunks without text, which are not embedded.
    pub skipped: u64,
    /// The sha256 of the collection's summary, in hexadecimal; empty in the totals.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary_sha256: String,
    /// The dense passes, one per model in the order of the spec; all zeros for a model that was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dense: Vec<DenseResult>,
    /// The sparse stage; absent if it was not requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<StageResult>,
    /// The rerank stage; absent if it was not requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<StageResult>,
    /// The quality of the reranked candidates, or of the retrieved ones if nothing was reranked: metric and value in
    /// thousandths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<(String, u16)>,
}

/// The result of a stage that can fall back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageResult {
    /// Whether the stage was requested.
    pub enabled: bool,
    /// Whether the stage did at least part of its work.
    pub executed: bool,
    /// Why the stage fell back; `None` if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<StageFallback>,
    /// Sparse stage only: the share of rows whose vector the model computed, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<u16>,
    /// Rerank stage only: the number of scored pairs of query and candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
    /// The time of the stage in milliseconds, summed over shards.
    #[serde(default)]
    pub millis: u64,
}

/// Why, where and how often a stage fell back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageFallback {
    /// The reason.
    pub reason: FallbackReason,
    /// Where the cause is.
    pub source: FallbackSource,
    /// The number of fallbacks.
    pub count: u64,
}

/// The pass of one dense model over one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenseResult {
    /// The number of dimensions of the vectors.
    pub dimensions: u32,
    /// Embedded tokens.
    pub tokens: u64,
    /// The time of the passes over all shards, in whole seconds.
    pub seconds: u64,
    /// How the vectors are compared.
    #[serde(default, skip_serializing_if = "Similarity::is_cosine")]
    pub similarity: Similarity,
}

impl fmt::Display for StageFallback {
    /// For messages: `OutOfMemory at run time (3×)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({}×)", self.reason, self.source.phrase(), self.count)
    }
}

impl FinalizeResult {
    /// The reason of the device fallback, if there was one.
    pub fn device_fallback(&self) -> Option<FallbackReason> {
        (self.device_fallbacks > 0).then_some(FallbackReason::DeviceFallback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fallback_is_written_with_its_reason_its_source_and_its_count() {
        let fallback = |reason, source| StageFallback { reason, source, count: 2 }.to_string();
        assert_eq!(
            [
                fallback(FallbackReason::FeatureDisabled, FallbackSource::Toggle),
                fallback(FallbackReason::NoQueries, FallbackSource::Input),
                fallback(FallbackReason::ModelUnavailable, FallbackSource::Load),
                fallback(FallbackReason::OutOfMemory, FallbackSource::Runtime),
            ],
            [
                "FeatureDisabled by a toggle (2×)",
                "NoQueries in the input (2×)",
                "ModelUnavailable at load (2×)",
                "OutOfMemory at run time (2×)",
            ]
        );
    }
}
