//! The schema of `processing_summary.json`: what was asked, what was done, what fell back and why.
//!
//! One file per collection and one for the run. Field names are in snake case, as in the Python pipeline whose
//! schema "v4.1" this one follows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::v1alpha1::FallbackReason;

/// The version of this schema.
pub const SCHEMA_VERSION: &str = "5.0";

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
    pub sparse_run: StageRun,
    /// The rerank stage.
    pub rerank_run: StageRun,
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
}

fn f32_name() -> String {
    "F32".to_owned()
}

/// A stage that can fall back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageRun {
    /// Whether it was asked for.
    pub enabled: bool,
    /// Whether it did what was asked.
    pub executed: bool,
    /// Why it did less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// How often it did less.
    pub fallback_count: u64,
}

impl StageRun {
    /// A stage that was not asked for.
    pub fn disabled() -> Self {
        Self { enabled: false, executed: false, fallback_reason: None, fallback_count: 0 }
    }
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
    /// What was done about pressure on memory.
    pub mitigation_events: Vec<serde_json::Value>,
    /// Who held the device, when, and with how much memory.
    pub lease_events: Vec<serde_json::Value>,
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
