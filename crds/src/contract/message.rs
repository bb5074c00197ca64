//! The termination message: a [`RunResult`] as compact JSON that fits into the kubelet's limit.

use serde::Deserialize;

use super::{
    interface::CONTRACT_VERSION,
    result::{PlanResult, RunResult, StageOutcome},
};
use crate::identity::Revision;

/// A termination message that is not a result of this contract.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// The text is not a result as JSON. After a crash it is the end of the log.
    #[error("the termination message is not a result: {0}")]
    Malformed(#[from] serde_json::Error),
    /// A runner with another contract version wrote the result.
    #[error(
        "the result has contract version {found}, but this operator reads version {CONTRACT_VERSION}: use the runner image of the operator's release"
    )]
    Version {
        /// The version of the result.
        found: u32,
    },
}

/// The size to which the kubelet truncates a termination message, in bytes.
pub const MESSAGE_LIMIT: usize = 4096;

impl RunResult {
    /// A result with the current contract version.
    pub fn new(revision: Revision, outcome: StageOutcome) -> Self {
        Self { version: CONTRACT_VERSION, revision, outcome }
    }

    /// The termination message: compact JSON of at most [`MESSAGE_LIMIT`] bytes. Collections that do not fit are
    /// omitted and counted; a long failure message is truncated.
    pub fn to_message(&self) -> String {
        let mut result = self.clone();
        loop {
            let text = serde_json::to_string(&result).expect("a result has string keys and finite numbers");
            if text.len() <= MESSAGE_LIMIT || !result.shrink() {
                return text;
            }
        }
    }

    /// Parses a termination message.
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

    /// Removes the last collection, then the sentence about changed sources, or the end of the failure message. Returns whether there was anything to remove.
    fn shrink(&mut self) -> bool {
        match &mut self.outcome {
            StageOutcome::Planned(PlanResult { complete: Some(result), .. }) | StageOutcome::Finalized(result) => {
                let popped = result.collections.pop().is_some();
                result.omitted += u32::from(popped);
                popped || result.source_changed.take().is_some()
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

#[cfg(test)]
mod tests {
    use super::{
        super::{
            failure::{Failure, FailureReason},
            result::{CollectionResult, DenseResult, FinalizeResult, ShardResult, StageFallback, StageResult},
            stage::Stage,
        },
        *,
    };
    use crate::v1alpha1::{FallbackReason, FallbackSource, Similarity};

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
            dense: vec![
                DenseResult {
                    dimensions: 1024,
                    tokens: u64::MAX,
                    seconds: u64::MAX,
                    similarity: Similarity::Euclidean
                };
                3
            ],
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
                source_changed: None,
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
            dense: vec![DenseResult { dimensions: 384, tokens: 900, seconds: 3, similarity: Similarity::Dot }],
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
                r#""dense":[{"dimensions":384,"tokens":900,"seconds":3,"similarity":"dot"}],"#,
                r#""sparse":{"enabled":true,"executed":true,"coverage":1000,"millis":1500},"#,
                r#""rerank":{"enabled":true,"executed":false,"#,
                r#""fallback":{"reason":"ModelUnavailable","source":"load","count":1},"millis":0},"#,
                r#""quality":[["ndcg@10",423]]},"deviceFallbacks":0,"#,
                r#""denseFallback":{"reason":"ModelUnavailable","source":"load","count":3},"collections":[],"omitted":0}}}"#
            )
        );
    }

    #[test]
    fn a_result_survives_the_round_trip_through_the_message() {
        let result = finalized(3);
        assert_eq!(RunResult::from_message(&result.to_message()).expect("a result"), result);
    }

    #[test]
    fn a_result_of_64_collections_fits_and_counts_those_omitted() {
        let message = finalized(64).to_message();
        assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
        let StageOutcome::Finalized(result) = RunResult::from_message(&message).expect("a result").outcome else {
            panic!("not finalized: {message}");
        };
        assert_eq!(result.collections.len() + result.omitted as usize, 64);
        assert!(result.omitted > 0);
    }

    #[test]
    fn a_sentence_that_does_not_fit_is_left_out_and_not_the_result() {
        let mut result = finalized(1);
        let StageOutcome::Finalized(finalized) = &mut result.outcome else { panic!("not finalized") };
        finalized.source_changed = Some("ä".repeat(MESSAGE_LIMIT));
        let message = result.to_message();
        assert!(message.len() <= MESSAGE_LIMIT, "{}", message.len());
        assert!(RunResult::from_message(&message).is_ok());
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
    fn a_message_of_another_version_is_rejected_with_its_version() {
        let error = RunResult::from_message(r#"{"version":9,"anything":1}"#).expect_err("another version");
        assert!(error.to_string().contains("version 9"), "{error}");
        assert!(RunResult::from_message("thread 'main' panicked").is_err());
    }
}
