//! The rerank stage of a run.

use std::ops::AddAssign;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{dtype, fallback::Fallback};
use crate::v1alpha1::{FallbackReason, FallbackSource};

/// The rerank stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RerankRun {
    /// Whether rerank was requested.
    pub enabled: bool,
    /// Whether the cross-encoder scored every pair.
    pub executed: bool,
    /// Why the stage fell back; also set if a toggle disabled the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The error that caused the fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_message: Option<String>,
    /// The cross-encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<RerankModel>,
    /// The device that scored the pairs, `cuda` or `cpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why the stage ran on another device than requested, or on fewer devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_fallback: Option<FallbackReason>,
    /// The origin of the queries.
    pub queries_from: QueryOrigin,
    /// The number of queries.
    pub queries: u64,
    /// How the candidates of several retrievers were merged; absent with one retriever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_fusion: Option<String>,
    /// The largest number of candidates per query.
    pub candidates_per_query: u32,
    /// The number of candidates per query that are kept.
    pub top_k: u32,
    /// Scored pairs of query and candidate.
    pub pairs: u64,
    /// Tokens of the pairs, special tokens included.
    pub tokens: u64,
    /// Pairs that were longer than the model supports and were truncated.
    pub truncated_pairs: u64,
    /// Computed batches.
    pub batches: u64,
    /// The time of scoring, in seconds.
    pub seconds: f64,
    /// The median time of a query, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_query_seconds: Option<f64>,
    /// The mean score of the best candidate before reranking, as scored by its retriever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_top_score_before: Option<f64>,
    /// The mean score of the best candidate after reranking, as scored by the cross-encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_top_score_after: Option<f64>,
    /// The share of queries whose best candidate changed, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_changed: Option<f64>,
    /// The path of the file with the candidates of every query, relative to the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rankings: Option<String>,
}

/// The cross-encoder of a rerank stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RerankModel {
    /// The name of the model.
    pub model: String,
    /// The URI of the model in the spec.
    pub source: String,
    /// The sha256 of the weights, in hexadecimal.
    pub weights_sha256: String,
    /// The sha256 of all files of the model that were read, in hexadecimal: of their list as `sha256sum` prints it, in the order
    /// of the paths. Empty in summaries of earlier releases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_sha256: String,
    /// The type of the arithmetic; same as for a dense model.
    #[serde(default = "dtype::f32_name")]
    pub dtype: String,
}

/// The origin of queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryOrigin {
    /// There are no queries.
    #[default]
    None,
    /// The file that the spec names.
    Spec,
    /// Headings of the collection, because the spec names no file; they have no judgements.
    Headings,
}

/// Adds the rerank stage of another collection: pairs, tokens and times are summed; the figures that are means, medians
/// or paths of one collection are removed; the settings and the first fallback stay.
impl AddAssign<&Self> for RerankRun {
    fn add_assign(&mut self, other: &Self) {
        // Without `..`: a new field has to be summed or named here.
        let Self {
            enabled: _,
            executed,
            fallback,
            fallback_message,
            model,
            device,
            device_fallback,
            queries_from,
            queries,
            candidate_fusion: _,
            candidates_per_query: _,
            top_k: _,
            pairs,
            tokens,
            truncated_pairs,
            batches,
            seconds,
            median_query_seconds: _,
            mean_top_score_before: _,
            mean_top_score_after: _,
            top_changed: _,
            rankings: _,
        } = other;
        self.executed |= executed;
        self.fallback = match (self.fallback, fallback) {
            // A toggle is one cause, whatever the number of collections.
            (Some(first), Some(next)) if first.source != FallbackSource::Toggle => {
                Some(Fallback { count: first.count + next.count, ..first })
            }
            (first, next) => first.or(*next),
        };
        self.fallback_message = self.fallback_message.take().or_else(|| fallback_message.clone());
        self.model = self.model.take().or_else(|| model.clone());
        self.device = self.device.take().or_else(|| device.clone());
        self.device_fallback = self.device_fallback.or(*device_fallback);
        if self.queries_from == QueryOrigin::None {
            self.queries_from = *queries_from;
        }
        // The queries of the spec serve every collection.
        self.queries = self.queries.max(*queries);
        self.pairs += pairs;
        self.tokens += tokens;
        self.truncated_pairs += truncated_pairs;
        self.batches += batches;
        self.seconds += seconds;
        self.median_query_seconds = None;
        self.mean_top_score_before = None;
        self.mean_top_score_after = None;
        self.top_changed = None;
        self.rankings = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fallback(reason: FallbackReason, source: FallbackSource, count: u64) -> Fallback {
        Fallback { reason, source, count }
    }

    fn run(number: u64) -> RerankRun {
        RerankRun {
            enabled: true,
            executed: true,
            model: Some(RerankModel {
                model: format!("ce-{number}"),
                source: "pvc://models/ce".into(),
                weights_sha256: "ab".into(),
                model_sha256: "cd".into(),
                dtype: "F32".into(),
            }),
            device: Some("cpu".into()),
            queries_from: QueryOrigin::Spec,
            queries: 5,
            candidate_fusion: Some("ReciprocalRankFusion".into()),
            candidates_per_query: 100,
            top_k: 10,
            pairs: number,
            tokens: 2 * number,
            truncated_pairs: 3 * number,
            batches: 4 * number,
            seconds: 0.5 * number as f64,
            median_query_seconds: Some(0.1),
            mean_top_score_before: Some(0.2),
            mean_top_score_after: Some(0.3),
            top_changed: Some(0.4),
            rankings: Some("rankings.jsonl".into()),
            ..RerankRun::default()
        }
    }

    #[test]
    fn two_collections_add_up_without_the_figures_of_one() {
        let mut sum = run(1);
        sum += &RerankRun { queries: 7, ..run(3) };
        let expected = RerankRun {
            queries: 7,
            pairs: 4,
            tokens: 8,
            truncated_pairs: 12,
            batches: 16,
            seconds: 2.0,
            median_query_seconds: None,
            mean_top_score_before: None,
            mean_top_score_after: None,
            top_changed: None,
            rankings: None,
            ..run(1)
        };
        assert_eq!(sum, expected);
    }

    #[test]
    fn a_collection_that_was_not_reranked_takes_the_model_and_the_device_of_the_next() {
        let mut sum = RerankRun::default();
        sum += &RerankRun { device_fallback: Some(FallbackReason::DeviceFallback), ..run(2) };
        assert!(sum.executed);
        assert_eq!((sum.model, sum.device), (run(2).model, run(2).device));
        assert_eq!(sum.device_fallback, Some(FallbackReason::DeviceFallback));
        assert_eq!((sum.queries_from, sum.queries), (QueryOrigin::Spec, 5));
    }

    #[test]
    fn fallbacks_are_counted_by_their_first_reason_and_a_toggle_counts_once() {
        use FallbackReason::{FeatureDisabled, NoQueries, OutOfMemory};
        use FallbackSource::{Input, Runtime, Toggle};
        let with = |fallback, message: &str| RerankRun {
            fallback: Some(fallback),
            fallback_message: Some(message.into()),
            ..RerankRun::default()
        };
        let mut sum = with(fallback(OutOfMemory, Runtime, 1), "first");
        sum += &with(fallback(NoQueries, Input, 2), "second");
        assert_eq!(sum.fallback, Some(fallback(OutOfMemory, Runtime, 3)));
        assert_eq!(sum.fallback_message.as_deref(), Some("first"));
        let mut sum = with(fallback(FeatureDisabled, Toggle, 1), "off");
        sum += &with(fallback(FeatureDisabled, Toggle, 1), "off");
        assert_eq!(sum.fallback, Some(fallback(FeatureDisabled, Toggle, 1)));
        let mut sum = RerankRun::default();
        sum += &with(fallback(NoQueries, Input, 2), "second");
        assert_eq!(sum.fallback, Some(fallback(NoQueries, Input, 2)));
        assert_eq!(sum.fallback_message.as_deref(), Some("second"));
    }
}
