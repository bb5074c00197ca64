//! What each stage of a run did, and what it could not do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{FallbackReason, FallbackSource};

/// The device that was asked for and the one that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRun {
    /// `cuda` or `cpu`.
    pub requested: String,
    /// The devices that were used.
    pub used: Vec<String>,
    /// Why it was another one, or why there were fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// In how many shards and reranks.
    pub fallback_count: u64,
}

/// The dense passes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DenseRun {
    /// One record per model, in the order of the spec, summed over the shards.
    pub passes: Vec<DensePass>,
    /// Optional models that were left out because they failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<ModelFallback>,
}

/// A model that did less than was asked, summed over the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ModelFallback {
    /// The model's name.
    pub model: String,
    /// Why.
    #[serde(flatten)]
    pub fallback: Fallback,
    /// The first error, as a sentence.
    pub message: String,
}

/// Why a stage did less than was asked, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fallback {
    /// The reason.
    pub reason: FallbackReason,
    /// Where it arose.
    pub source: FallbackSource,
    /// How often.
    pub count: u64,
}

/// One model over the chunks of a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DensePass {
    /// The model's name.
    pub model: String,
    /// Where it was loaded from, as the spec names it; a model of a hub with the commit that its revision named.
    pub source: String,
    /// The sha256 of its weights, in hexadecimal.
    pub weights_sha256: String,
    /// `Cls`, `Mean`, …
    pub pooling: String,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The width of the vectors.
    pub dimensions: u32,
    /// The type of the arithmetic: `F32`, `F16`, `BF16` or `Int8`. On a CPU the weights are rounded to floats of 16 bits
    /// and the arithmetic is that of F32. Several, where shards were computed on devices of different kinds.
    #[serde(default = "f32_name")]
    pub dtype: String,
    /// The form in which the vectors are stored: `F32`, `F16`, `Int8` or `Binary`.
    #[serde(default = "f32_name")]
    pub precision: String,
    /// How numbers became those of the stored form, where it is not that of floats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<String>,
    /// The text that stood before every chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_prompt: Option<String>,
    /// Chunks embedded.
    pub chunks: u64,
    /// Tokens embedded, special tokens included.
    pub tokens: u64,
    /// Chunks that were longer than `max_tokens`.
    pub truncated_chunks: u64,
    /// Tokens cut from them.
    pub tokens_lost: u64,
    /// Batches computed.
    pub batches: u64,
    /// Time of the passes, in seconds; shards that ran side by side are added up.
    pub seconds: f64,
    /// The largest memory of the process (on a GPU: of the device) in a pass, in bytes.
    #[serde(default)]
    pub peak_bytes: u64,
    /// How often something was done about pressure on memory.
    #[serde(default)]
    pub mitigations: u64,
    /// How many chunks had how many tokens, before any were cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_lengths: Vec<LengthBucket>,
}

/// Chunks by their length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LengthBucket {
    /// The largest number of tokens in this bucket; it begins behind the bucket before.
    pub up_to: u32,
    /// Chunks.
    pub chunks: u64,
}

fn f32_name() -> String {
    "F32".to_owned()
}

/// The sparse stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SparseRun {
    /// Whether it was asked for.
    pub enabled: bool,
    /// Whether a model made any vector.
    pub executed: bool,
    /// Why it did less, the gravest first met; of a stage that was not asked for, why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The first error behind the fallback, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_message: Option<String>,
    /// One record per model, in the order of the spec, summed over the shards.
    #[serde(default)]
    pub passes: Vec<SparsePass>,
    /// The share of rows whose vector a model made; those made of metadata do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    /// Time of the passes, in seconds; shards that ran side by side are added up.
    #[serde(default)]
    pub seconds: f64,
}

/// One sparse model over the chunks of a collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SparsePass {
    /// The model's name.
    pub model: String,
    /// Where it was loaded from, as the spec names it.
    pub source: String,
    /// The sha256 of its weights, in hexadecimal; empty where they could not be loaded.
    pub weights_sha256: String,
    /// The size of the index space: the vocabulary of the model's tokenizer.
    pub vocabulary: u32,
    /// The longest sequence, in tokens.
    pub max_tokens: u32,
    /// The type of the arithmetic, as of a dense model.
    #[serde(default = "f32_name")]
    pub dtype: String,
    /// The number of terms kept per chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// The weight above which a term is kept.
    pub threshold: f64,
    /// Chunks.
    pub chunks: u64,
    /// Chunks whose vector the model made.
    pub model_chunks: u64,
    /// Chunks whose vector was made of the terms of their metadata.
    pub metadata_chunks: u64,
    /// Terms kept, of all chunks.
    pub entries: u64,
    /// Tokens read, special tokens included.
    pub tokens: u64,
    /// Chunks that were longer than `max_tokens`.
    pub truncated_chunks: u64,
    /// Tokens cut from them.
    pub tokens_lost: u64,
    /// Batches computed.
    pub batches: u64,
    /// Time of the passes, in seconds.
    pub seconds: f64,
    /// The largest memory of the process (on a GPU: of the device) in a pass, in bytes.
    #[serde(default)]
    pub peak_bytes: u64,
    /// How often something was done about pressure on memory.
    #[serde(default)]
    pub mitigations: u64,
}

/// The fused vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FusionRun {
    /// The column.
    pub column: String,
    /// `WeightedConcat` or `WeightedMean`.
    pub method: String,
    /// The models that are in it with their share, which add up to 1.
    pub models: Vec<FusedModel>,
    /// The width of the vector.
    pub dimensions: u32,
    /// Time, in seconds.
    pub seconds: f64,
}

/// A model in a fused vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FusedModel {
    /// Its name.
    pub model: String,
    /// Its share.
    pub share: f64,
}

/// The rerank stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RerankRun {
    /// Whether it was asked for.
    pub enabled: bool,
    /// Whether the cross-encoder scored every pair.
    pub executed: bool,
    /// Why it did not; of a stage that was not asked for, why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// The error behind the fallback, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_message: Option<String>,
    /// The cross-encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<RerankModel>,
    /// The device that it ran on, `cuda` or `cpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Why that was another one than asked for, or why there were fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_fallback: Option<FallbackReason>,
    /// Where the queries come from.
    pub queries_from: QueryOrigin,
    /// Queries.
    pub queries: u64,
    /// How candidates of several retrievers became one list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate_fusion: Option<String>,
    /// The largest number of candidates of a query.
    pub candidates_per_query: u32,
    /// How many of them are kept.
    pub top_k: u32,
    /// Pairs of query and candidate that were scored.
    pub pairs: u64,
    /// Tokens of the pairs.
    pub tokens: u64,
    /// Pairs that were longer than the model takes.
    pub truncated_pairs: u64,
    /// Batches computed.
    pub batches: u64,
    /// Time of scoring, in seconds.
    pub seconds: f64,
    /// The median time of a query, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_query_seconds: Option<f64>,
    /// The mean score of the best candidate before, as its retriever has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_top_score_before: Option<f64>,
    /// The mean score of the best candidate after, as the cross-encoder has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_top_score_after: Option<f64>,
    /// The share of queries whose best candidate is another one than before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_changed: Option<f64>,
    /// The file with the candidates of every query, below the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rankings: Option<String>,
}

/// The cross-encoder of a rerank stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RerankModel {
    /// Its name.
    pub model: String,
    /// Where it was loaded from, as the spec names it.
    pub source: String,
    /// The sha256 of its weights, in hexadecimal.
    pub weights_sha256: String,
    /// The type of the arithmetic, as of a dense model.
    #[serde(default = "f32_name")]
    pub dtype: String,
}

/// Where queries come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryOrigin {
    /// There are none.
    #[default]
    None,
    /// The file that the spec names.
    Spec,
    /// Headings of the collection, for want of a file; they have no judgements.
    Headings,
}
