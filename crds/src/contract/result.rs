//! What the runner answers.

use serde::{Deserialize, Serialize};

use super::{CONTRACT_VERSION, Failure, MESSAGE_LIMIT};
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

/// A termination message that is no result of this contract.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not JSON of this shape; a crash leaves the end of the log here.
    #[error("the termination message is no result: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a runner of another version.
    #[error(
        "the result has contract version {found}, this operator reads version {CONTRACT_VERSION}: use the runner image of the operator's release"
    )]
    Version {
        /// The version that was found.
        found: u32,
    },
}

impl RunResult {
    /// A result of this version.
    pub fn new(revision: Revision, outcome: StageOutcome) -> Self {
        Self { version: CONTRACT_VERSION, revision, outcome }
    }

    /// The termination message, compact and under [`MESSAGE_LIMIT`] bytes: what does not fit of the
    /// collections is left out and counted, a long failure message is cut.
    pub fn to_message(&self) -> String {
        let mut result = self.clone();
        loop {
            let text = serde_json::to_string(&result).expect("a result has string keys and finite numbers");
            if text.len() <= MESSAGE_LIMIT || !result.shrink() {
                return text;
            }
        }
    }

    /// Reads a termination message.
    pub fn from_message(text: &str) -> Result<Self, MessageError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let found = serde_json::from_str::<Versioned>(text)?.version;
        if found != CONTRACT_VERSION {
            return Err(MessageError::Version { found });
        }
        Ok(serde_json::from_str(text)?)
    }

    fn shrink(&mut self) -> bool {
        match &mut self.outcome {
            StageOutcome::Planned(PlanResult { complete: Some(result), .. }) | StageOutcome::Finalized(result) => {
                let popped = result.collections.pop().is_some();
                result.omitted += u32::from(popped);
                popped
            }
            StageOutcome::Failed(failure) => {
                let keep = failure.message.len().saturating_sub(failure.message.len() / 4 + 1);
                let keep = (0..=keep).rev().find(|&at| failure.message.is_char_boundary(at)).unwrap_or(0);
                let shrinks = keep > 0;
                failure.message.truncate(keep);
                shrinks
            }
            StageOutcome::Planned(_) | StageOutcome::Embedded(_) => false,
        }
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
    use super::{
        super::{FailureReason, Stage},
        *,
    };

    fn revision() -> Revision {
        Revision::from_recorded("7f3a91c04d")
    }

    fn finalized(collections: usize) -> RunResult {
        let fallback =
            StageFallback { reason: FallbackReason::OutOfMemory, source: FallbackSource::Runtime, count: u64::MAX };
        let stage = StageResult {
            enabled: true,
            executed: true,
            fallback: Some(fallback),
            coverage: Some(999),
            candidates: Some(u64::MAX),
            millis: u64::MAX,
        };
        let collection = CollectionResult {
            chunks: u64::MAX,
            embedded: u64::MAX,
            truncated: u64::MAX,
            skipped: u64::MAX,
            summary_sha256: "f".repeat(64),
            dense: vec![DenseResult { dimensions: 1024, tokens: u64::MAX, seconds: u64::MAX }; 3],
            sparse: Some(stage.clone()),
            rerank: Some(stage),
            quality: vec![("ndcg@10".into(), 423)],
        };
        RunResult::new(
            revision(),
            StageOutcome::Finalized(FinalizeResult {
                summary_sha256: "e".repeat(64),
                totals: CollectionResult { summary_sha256: String::new(), dense: Vec::new(), ..collection.clone() },
                device_fallbacks: 3,
                dense_fallback: Some(fallback),
                collections: vec![collection; collections],
                omitted: 0,
            }),
        )
    }

    #[test]
    fn the_bytes_of_a_failure_are_pinned() {
        let failure = Failure {
            stage: Stage::Embed,
            reason: FailureReason::InvalidRecord,
            message: "a.jsonl:7: no field \"text\"".into(),
            shard: Some(2),
        };
        let result = RunResult::new(revision(), StageOutcome::Failed(failure));
        assert_eq!(
            result.to_message(),
            concat!(
                r#"{"version":1,"revision":"7f3a91c04d","outcome":{"failed":{"stage":"embed","#,
                r#""reason":"InvalidRecord","message":"a.jsonl:7: no field \"text\"","shard":2}}}"#
            )
        );
    }

    #[test]
    fn the_bytes_of_a_plan_and_a_shard_are_pinned() {
        let plan =
            RunResult::new(revision(), StageOutcome::Planned(PlanResult { shards: 3, chunks: 25, complete: None }));
        assert_eq!(
            plan.to_message(),
            r#"{"version":1,"revision":"7f3a91c04d","outcome":{"planned":{"shards":3,"chunks":25}}}"#
        );
        let shard = RunResult::new(
            revision(),
            StageOutcome::Embedded(ShardResult { shard: 1, chunks: 10, already_committed: false }),
        );
        assert_eq!(
            shard.to_message(),
            r#"{"version":1,"revision":"7f3a91c04d","outcome":{"embedded":{"shard":1,"chunks":10,"alreadyCommitted":false}}}"#
        );
    }

    #[test]
    fn the_bytes_of_a_result_are_pinned() {
        let sparse =
            StageResult { enabled: true, executed: true, coverage: Some(1000), millis: 1500, ..StageResult::default() };
        let fallback =
            StageFallback { reason: FallbackReason::ModelUnavailable, source: FallbackSource::Load, count: 1 };
        let rerank = StageResult { enabled: true, fallback: Some(fallback), ..StageResult::default() };
        let totals = CollectionResult {
            chunks: 25,
            embedded: 25,
            dense: vec![DenseResult { dimensions: 384, tokens: 900, seconds: 3 }],
            sparse: Some(sparse),
            rerank: Some(rerank),
            quality: vec![("ndcg@10".into(), 423)],
            ..CollectionResult::default()
        };
        let result = FinalizeResult {
            summary_sha256: "aa".into(),
            totals,
            dense_fallback: Some(StageFallback { count: 3, ..fallback }),
            ..FinalizeResult::default()
        };
        assert_eq!(
            RunResult::new(revision(), StageOutcome::Finalized(result)).to_message(),
            concat!(
                r#"{"version":1,"revision":"7f3a91c04d","outcome":{"finalized":{"summarySha256":"aa","#,
                r#""totals":{"chunks":25,"embedded":25,"truncated":0,"skipped":0,"#,
                r#""dense":[{"dimensions":384,"tokens":900,"seconds":3}],"#,
                r#""sparse":{"enabled":true,"executed":true,"coverage":1000,"millis":1500},"#,
                r#""rerank":{"enabled":true,"executed":false,"#,
                r#""fallback":{"reason":"ModelUnavailable","source":"load","count":1},"millis":0},"#,
                r#""quality":[["ndcg@10",423]]},"deviceFallbacks":0,"#,
                r#""denseFallback":{"reason":"ModelUnavailable","source":"load","count":3},"collections":[],"omitted":0}}}"#
            )
        );
    }

    #[test]
    fn a_result_survives_the_way_through_the_message() {
        let result = finalized(3);
        assert_eq!(RunResult::from_message(&result.to_message()).expect("a result"), result);
    }

    #[test]
    fn a_result_of_64_collections_fits_and_counts_what_it_left_out() {
        let message = finalized(64).to_message();
        assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
        let StageOutcome::Finalized(result) = RunResult::from_message(&message).expect("a result").outcome else {
            panic!("not finalized: {message}");
        };
        assert_eq!(result.collections.len() + result.omitted as usize, 64);
        assert!(result.omitted > 0);
    }

    #[test]
    fn a_long_failure_message_is_cut_between_characters() {
        let failure = Failure {
            stage: Stage::Plan,
            reason: FailureReason::InvalidFile,
            message: "ä\"".repeat(5000),
            shard: None,
        };
        let message = RunResult::new(revision(), StageOutcome::Failed(failure)).to_message();
        assert!(message.len() <= MESSAGE_LIMIT);
        assert!(RunResult::from_message(&message).is_ok());
    }

    #[test]
    fn a_message_of_another_version_is_refused_by_name() {
        let error = RunResult::from_message(r#"{"version":9,"anything":1}"#).expect_err("another version");
        assert!(error.to_string().contains("version 9"), "{error}");
        assert!(RunResult::from_message("thread 'main' panicked").is_err());
    }
}
