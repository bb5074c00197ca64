//! The schema of `processing_summary.json`: what was asked, what was done, what fell back and why.
//!
//! One file per collection and one for the run. Field names are in snake case, as in the Python pipeline whose
//! schema "v4.1" this one follows.

mod quality;
mod stages;
mod telemetry;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    quality::{Example, ExampleHit, GateOutcome, ListQuality, Quality},
    stages::{
        DensePass, DenseRun, DeviceRun, Fallback, FusedModel, FusionRun, LengthBucket, ModelFallback, QueryOrigin,
        RerankModel, RerankRun, SparsePass, SparseRun,
    },
    telemetry::{LeaseEvent, MitigationEvent, MitigationKind, Sample, SpanSummary, Telemetry},
};

/// The version of this schema.
pub const SCHEMA_VERSION: &str = "5.2";

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
