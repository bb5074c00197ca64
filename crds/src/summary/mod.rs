//! The schema of `processing_summary.json`: requests, results and fallbacks of a run.
//!
//! One file per collection and one for the run. Field names are in snake case, as in the Python pipeline whose
//! schema "v4.1" this one follows.

mod dense;
mod device;
mod dtype;
mod export;
mod fallback;
mod fusion;
mod processing_summary;
mod quality;
mod rerank;
mod run;
mod sparse;
mod telemetry;
mod toggles;

pub use self::{
    dense::{DensePass, DenseRun, LengthBucket},
    device::DeviceRun,
    export::{ExportRun, ExportedFile},
    fallback::{Fallback, ModelFallback},
    fusion::{FusedModel, FusionRun},
    processing_summary::{ProcessingSummary, SCHEMA_VERSION},
    quality::{Example, ExampleHit, GateOutcome, ListQuality, Quality},
    rerank::{QueryOrigin, RerankModel, RerankRun},
    run::{CollectionPointer, RunInfo},
    sparse::{SparsePass, SparseRun},
    telemetry::{LeaseEvent, MitigationEvent, MitigationKind, Sample, SpanSummary, Telemetry},
    toggles::{FeatureToggles, ToggleResolution},
};
