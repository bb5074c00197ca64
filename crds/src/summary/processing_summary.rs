//! The top level of `processing_summary.json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dense::DenseRun,
    device::DeviceRun,
    export::ExportRun,
    fusion::FusionRun,
    quality::{Example, GateOutcome, Quality},
    rerank::RerankRun,
    run::{CollectionPointer, RunInfo},
    sparse::SparseRun,
    telemetry::Telemetry,
    toggles::FeatureToggles,
};

/// The version of this schema.
pub const SCHEMA_VERSION: &str = "5.3";

/// `processing_summary.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessingSummary {
    /// The version of this schema, [`SCHEMA_VERSION`].
    pub schema_version: String,
    /// The time at which the summary was written, RFC 3339, UTC.
    pub generated_at: String,
    /// The run that the summary belongs to.
    pub run: RunInfo,
    /// The name of the collection; absent in the summary of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection: Option<String>,
    /// The collections and their summaries; only in the summary of the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<CollectionPointer>,
    /// Embedded chunks.
    pub chunk_count: u64,
    /// Chunks without text, which are not embedded.
    pub skipped_chunks: u64,
    /// The resolved toggles, and the layers that set them.
    pub feature_toggles: FeatureToggles,
    /// The requested device and the devices that were used.
    pub device_run: DeviceRun,
    /// The dense passes.
    pub dense_run: DenseRun,
    /// The sparse stage.
    pub sparse_run: SparseRun,
    /// The fused vector; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fusion_run: Option<FusionRun>,
    /// The rerank stage; its counts are summed over the collections in the summary of the run.
    pub rerank_run: RerankRun,
    /// The retrieval quality of every list of candidates; only if the queries have judgements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// The result of the quality gate; absent without a gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateOutcome>,
    /// A few queries with their best chunks; only in the summary of a collection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<Example>,
    /// The exported files.
    pub export_run: ExportRun,
    /// Spans, metrics and events of the run.
    pub telemetry: Telemetry,
    /// Warnings for people, one sentence each.
    pub warnings: Vec<String>,
}
