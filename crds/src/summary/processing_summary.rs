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
