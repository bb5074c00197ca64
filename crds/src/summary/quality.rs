//! The retrieval quality, the result of the quality gate, and example queries.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The retrieval quality: how well each list finds the relevant chunks of the queries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Queries with at least one relevant id that counts in this collection.
    pub judged_queries: u64,
    /// Relevant ids that are not chunks of the run; they count as not found.
    pub unknown_relevant: u64,
    /// The sha256 of the file of queries, in hexadecimal: figures of different queries cannot be compared. Absent in records
    /// of releases that did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_sha256: Option<String>,
    /// One entry per list of candidates, in the order of the pipeline.
    pub lists: Vec<ListQuality>,
}

/// The quality of one list of candidates: means over the judged queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListQuality {
    /// The list: `dense`, `sparse`, `fused` (by the fused vector), `candidates` (merged from all retrievers) or
    /// `reranked`.
    pub stage: String,
    /// The model; absent if the list is not of a single model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The values of `ndcg@k`, `recall@k` and `mrr`, 0 to 1, as trec_eval defines them: the gain of a chunk is its grade.
    pub metrics: BTreeMap<String, f64>,
}

/// A query and its best chunks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// The text of the query.
    pub query: String,
    /// The best chunks, best first.
    pub found: Vec<ExampleHit>,
}

/// One of the best chunks of a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExampleHit {
    /// Its id.
    pub id: String,
    /// The beginning of its text.
    pub text: String,
    /// Its score: of the cross-encoder, or of the retriever if nothing was reranked.
    pub score: f64,
    /// Its rank before reranking, from 1; absent if nothing was reranked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_before: Option<u32>,
}

/// The result of the quality gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateOutcome {
    /// The name of the metric.
    pub metric: String,
    /// Its value in this revision.
    pub value: f64,
    /// The lowest acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// The largest acceptable drop below the previous value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_drop: Option<f64>,
    /// The value of the revision that readers use now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<f64>,
    /// Why `maximum_drop` was not checked although a revision is published: its value is not of the same queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_compared: Option<String>,
    /// Relevant ids that are not chunks of the run; the value counts them as not found.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_relevant: u64,
    /// Whether the gate passed, so that readers get this revision.
    pub passed: bool,
}

// serde passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
