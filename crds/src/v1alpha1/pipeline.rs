//! The stages after the dense passes: toggles, fusion, rerank.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Switches for stages and behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TogglesSpec {
    /// Whether only one model at a time is loaded on the device. Default true. With false, loaded models stay for the
    /// next shard of the pod as long as memory suffices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// Whether sparse vectors are computed. Default: true if `models.sparse` is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<bool>,
    /// Whether candidates are reranked. Default: true if `models.reranker` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<bool>,
    /// Whether the runner serves metrics. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
}

impl TogglesSpec {
    /// Whether no switch is set.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// The fusion of the ensemble's vectors and of the retrievers' candidates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FusionSpec {
    /// How the dense vectors are fused into a further vector, in the column `fused`. Default: `WeightedConcat` with
    /// several dense models, `None` with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<FusionMethod>,
    /// How the candidates of dense and sparse retrieval are merged into one list. Default `ReciprocalRankFusion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<CandidateFusion>,
}

impl FusionSpec {
    /// Whether no method is set.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// How the dense vectors are fused into a further vector, in the column `fused`. Default: `WeightedConcat` with several
/// dense models, `None` with one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum FusionMethod {
    /// Normalised vectors scaled by √(wₘ/Σw) and concatenated: a dot product is the weighted mean of the cosines.
    WeightedConcat,
    /// Normalised vectors truncated to the common width, renormalised, summed by weight and normalised.
    WeightedMean,
    /// No fused vector.
    None,
}

/// How the candidates of dense and sparse retrieval are merged into one list. Default `ReciprocalRankFusion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum CandidateFusion {
    /// Reciprocal rank fusion.
    ReciprocalRankFusion,
    /// The weighted sum of normalised scores.
    Weighted,
}

/// Queries, candidates and the quality gate.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.topK) ? self.topK : 10) <= (has(self.candidates) ? self.candidates : 100)").message("topK (default 10) must not exceed candidates (default 100)").field_path(".topK"))]
#[x_kube(validation = Rule::new("!has(self.gate) || has(self.queries)").message("a gate needs queries with judgements: set rerank.queries").field_path(".gate"))]
pub struct RerankSpec {
    /// The queries. Default: each collection is probed with queries drawn from its own headings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<QueriesSpec>,
    /// The number of candidates per query that the cross-encoder scores. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub candidates: Option<u32>,
    /// The number of candidates per query that are kept. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub top_k: Option<u32>,
    /// The quality gate: if a collection fails it, the run fails and readers stay on the previous revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateSpec>,
}

/// The location of the queries.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueriesSpec {
    /// The key of a ConfigMap that holds JSON lines of `{id, text, relevant?}`. `relevant` is a list of chunk ids, or
    /// an object from chunk id to grade.
    pub config_map: KeyRef,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The name of the ConfigMap, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// The quality gate: if a collection fails it, the run fails and readers stay on the previous revision.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.minimum) || has(self.maximumDrop)").message("a gate without a bound never fails: give minimum or maximumDrop"))]
pub struct GateSpec {
    /// `ndcg@k`, `recall@k` or `mrr`, of the reranked candidates, or of the retrieved ones if nothing was reranked.
    #[schemars(regex(pattern = "^(ndcg@[1-9][0-9]*|recall@[1-9][0-9]*|mrr)$"))]
    pub metric: String,
    /// The lowest acceptable value, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub minimum: Option<f64>,
    /// The largest acceptable drop below the value of the previous revision, 0 to 1. Checked only if that revision was judged
    /// by the same queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub maximum_drop: Option<f64>,
}
