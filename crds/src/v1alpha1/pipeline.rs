//! The stages after the dense passes: toggles, fusion, rerank.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Switches for the stages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TogglesSpec {
    /// One model at a time holds the device. Without it, the models that a pod has loaded stay as long as memory is not
    /// short, for its next shard. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclusive: Option<bool>,
    /// Sparse vectors. Default: whether a sparse model is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sparse: Option<bool>,
    /// Rerank. Default: whether a reranker is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerank: Option<bool>,
    /// Metrics. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
}

impl TogglesSpec {
    /// Whether nothing is switched.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// How vectors and candidates become one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FusionSpec {
    /// How the vectors of the ensemble become a further, fused vector, in the column `fused`. Default: `WeightedConcat`
    /// where there are several dense models, `None` where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<FusionMethod>,
    /// How the candidates of dense and sparse retrieval become one list. Default: `ReciprocalRankFusion`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<CandidateFusion>,
}

impl FusionSpec {
    /// Whether nothing is asked for.
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// How the vectors of the ensemble become a further, fused vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum FusionMethod {
    /// Normalised vectors scaled by √(wₘ/Σw) and concatenated: a dot product is the weighted mean of the cosines.
    WeightedConcat,
    /// Normalised vectors cut to the common width, renormalised, summed by weight and normalised.
    WeightedMean,
    /// No fused vector.
    None,
}

/// How the candidates of dense and sparse retrieval become one list.
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
#[x_kube(validation = Rule::new("!has(self.gate) || has(self.queries)").message("a gate needs queries with judgements: give queries").field_path(".gate"))]
pub struct RerankSpec {
    /// The queries; without them each collection is probed with queries drawn from its own headings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries: Option<QueriesSpec>,
    /// How many candidates per query the cross-encoder scores. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub candidates: Option<u32>,
    /// How many candidates per query are kept. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub top_k: Option<u32>,
    /// The quality below which readers stay on the previous revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateSpec>,
}

/// Where the queries are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueriesSpec {
    /// A key of a ConfigMap that holds JSON lines of `{id, text, relevant?}`; `relevant` is a list of chunk ids, or an
    /// object of chunk ids and grades.
    pub config_map: KeyRef,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The ConfigMap, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// The quality below which readers stay on the previous revision.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.minimum) || has(self.maximumDrop)").message("give minimum or maximumDrop"))]
pub struct GateSpec {
    /// `ndcg@k`, `recall@k` or `mrr`, of the last list that was made: the reranked one, else that of the candidates.
    #[schemars(regex(pattern = "^(ndcg@[1-9][0-9]*|recall@[1-9][0-9]*|mrr)$"))]
    pub metric: String,
    /// The lowest acceptable value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub minimum: Option<f64>,
    /// The largest acceptable drop against the previous revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub maximum_drop: Option<f64>,
}
