//! The schema of `processing_summary.json`: what was asked, what was done, what fell back and why.
//!
//! One file per collection and one for the run. Field names are in snake case, as in the Python pipeline whose
//! schema "v4.1" this one follows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::{FallbackReason, FallbackSource};

/// The version of this schema.
pub const SCHEMA_VERSION: &str = "5.1";

/// `processing_summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessingSummary {
    /// [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// When it was written, RFC 3339, UTC.
    pub generated_at: String,
    /// The run.
    pub run: RunInfo,
    /// The collection; absent in the summary of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// The collections; only in the summary of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<CollectionPointer>,
    /// Chunks embedded.
    pub chunk_count: u64,
    /// Chunks without text, left out.
    pub skipped_chunks: u64,
    /// Which stages were asked for, and who said so.
    pub feature_toggles: FeatureToggles,
    /// The device that was asked for and the one that was used.
    pub device_run: DeviceRun,
    /// The dense passes.
    pub dense_run: DenseRun,
    /// The sparse stage.
    pub sparse_run: SparseRun,
    /// The fused vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion_run: Option<FusionRun>,
    /// The rerank stage; its counts are summed over the collections in the summary of the run.
    pub rerank_run: RerankRun,
    /// The quality of every list of candidates that was made, where judgements are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// What the gate said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateOutcome>,
    /// A few queries with what was found; only in the summary of a collection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
    /// What was written.
    pub export_run: ExportRun,
    /// Spans, metrics and events of the run.
    pub telemetry: Telemetry,
    /// What a reader should know that no field says.
    pub warnings: Vec<String>,
}

/// The run that a summary belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunInfo {
    /// Its namespace; empty on one machine.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its revision.
    pub revision: String,
    /// The version of the runner.
    pub runner_version: String,
}

/// Where the summary of a collection lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CollectionPointer {
    /// The collection.
    pub name: String,
    /// Chunks embedded.
    pub chunk_count: u64,
    /// Where its summary lies.
    pub summary: String,
    /// The sha256 of the summary's bytes, in hexadecimal.
    pub sha256: String,
}

/// Which stages were asked for, and who said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FeatureToggles {
    /// One model at a time holds the device.
    pub exclusive: bool,
    /// Sparse vectors.
    pub sparse: bool,
    /// Rerank.
    pub rerank: bool,
    /// Metrics.
    pub metrics: bool,
    /// The layer that decided each toggle.
    pub sources: BTreeMap<String, String>,
    /// Every resolution, in order.
    pub provenance: Vec<ToggleResolution>,
}

/// One layer's say about one toggle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ToggleResolution {
    /// The toggle.
    pub key: String,
    /// Its value in this layer.
    pub value: String,
    /// Where the value stands: a file, a variable, a flag, a field.
    pub source: String,
    /// `default`, `file`, `env` or `spec`.
    pub layer: String,
}

/// The device that was asked for and the one that was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRun {
    /// `cuda` or `cpu`.
    pub requested: String,
    /// The devices that were used.
    pub used: Vec<String>,
    /// Why it was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// In how many shards.
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
    /// and the arithmetic is that of F32.
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

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportRun {
    /// The place of the files, as the spec names it.
    pub destination: String,
    /// The files that count, in the order of the plan.
    pub files: Vec<ExportedFile>,
    /// Their sizes added up, in bytes.
    pub total_bytes: u64,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportedFile {
    /// Its path below the destination.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Spans, metrics and events of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Telemetry {
    /// Time per span name.
    pub spans: Vec<SpanSummary>,
    /// Final values of the metrics.
    pub metrics: BTreeMap<String, f64>,
    /// What was done about pressure on memory; the first of them, where there are very many.
    pub mitigation_events: Vec<MitigationEvent>,
    /// Which model held the device, from when to when, and with how much memory.
    pub lease_events: Vec<LeaseEvent>,
    /// How fast the passes were over time; only in the summary of a collection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// A model that held the device for a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseEvent {
    /// The shard; none in the finalize stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// `dense`, `sparse` or `rerank`.
    pub stage: String,
    /// The model.
    pub model: String,
    /// The device.
    pub device: String,
    /// When it was taken, RFC 3339, UTC.
    pub acquired_at: String,
    /// When it was given back.
    pub released_at: String,
    /// Memory in use before the model was loaded, in bytes.
    pub bytes_before: u64,
    /// The largest memory in use.
    pub bytes_peak: u64,
    /// Memory in use after the model was gone.
    pub bytes_after: u64,
}

/// Something that was done about pressure on memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MitigationEvent {
    /// The shard; none in the finalize stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// `dense`, `sparse` or `rerank`.
    pub stage: String,
    /// The model.
    pub model: String,
    /// What was done.
    pub kind: MitigationKind,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// Tokens of a batch before.
    pub tokens_before: u64,
    /// Tokens of a batch after.
    pub tokens_after: u64,
    /// Memory in use, in bytes.
    pub used_bytes: u64,
    /// The ceiling, in bytes.
    pub ceiling_bytes: u64,
}

/// What was done about pressure on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MitigationKind {
    /// Batches were made smaller before memory ran out.
    Shrink,
    /// A batch for which memory ran out was computed in halves.
    Split,
    /// Batches were made larger again.
    Recover,
}

/// What a pass did in a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The shard; none in the finalize stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// `dense`, `sparse` or `rerank`.
    pub stage: String,
    /// The model.
    pub model: String,
    /// The end of the while, RFC 3339, UTC.
    pub at: String,
    /// How long it was, in milliseconds.
    pub millis: u64,
    /// Tokens computed in it.
    pub tokens: u64,
    /// Memory in use at its end, in bytes.
    pub used_bytes: u64,
}

/// Time per span name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpanSummary {
    /// The name: `rag.plan`, `rag.dense`, `rag.export`, …
    pub name: String,
    /// How many spans.
    pub count: u64,
    /// Their time, in seconds.
    pub seconds: f64,
}
