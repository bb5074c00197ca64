//! How well the judged chunks of queries were found, what the gate said of it, and a few queries to look at.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How well the judged chunks of the queries were found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    /// Queries with at least one relevant chunk in the collection.
    pub judged_queries: u64,
    /// Relevant ids that the collection does not have.
    pub unknown_relevant: u64,
    /// One entry per list, in the order in which they were made.
    pub lists: Vec<ListQuality>,
}

/// The quality of one list of candidates, the means over the judged queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListQuality {
    /// `dense`, `sparse`, `fused` (the fused vector), `candidates` (of all retrievers together) or `reranked`.
    pub stage: String,
    /// The model, where the list is that of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `ndcg@k`, `recall@k` and `mrr`.
    pub metrics: BTreeMap<String, f64>,
}

/// A query with what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    /// The query.
    pub query: String,
    /// The best chunks, the best first.
    pub found: Vec<ExampleHit>,
}

/// A chunk that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExampleHit {
    /// Its id.
    pub id: String,
    /// The beginning of its text.
    pub text: String,
    /// Its score in the last list that was made.
    pub score: f64,
    /// Its rank before the rerank, from 1; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank_before: Option<u32>,
}

/// What the gate said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateOutcome {
    /// The metric.
    pub metric: String,
    /// Its value in this revision.
    pub value: f64,
    /// The lowest acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// The largest acceptable drop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_drop: Option<f64>,
    /// The value of the revision that readers use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<f64>,
    /// Whether readers move on to this revision.
    pub passed: bool,
}
