//! `embedrun.dev/v1alpha1`: the `EmbeddingRun` custom resource.

mod collection;
mod conditions;
mod execution;
mod model;
mod output;
mod pipeline;
mod spec;
mod status;

pub use collection::{
    CollectionSpec, ConfigMapSource, FieldMapping, Format, HostPathVolume, ObjectStoreVolume, PvcVolume, SourceSpec,
};
pub use conditions::{ConditionType, reason};
pub use execution::{ExecutionSpec, GpuSpec, ModelCacheSpec, QueueSpec};
pub use model::{
    DenseModelSpec, Dtype, ModelSource, ModelSourceError, ModelsSpec, Pooling, Precision, Prompts, RerankerSpec,
    SparseModelSpec,
};
pub use output::{OutputFormat, OutputSpec, QdrantSpec, SecretKeyRef};
pub use pipeline::{CandidateFusion, FusionMethod, FusionSpec, GateSpec, KeyRef, QueriesSpec, RerankSpec, TogglesSpec};
pub use spec::{DeletionPolicy, EmbeddingRun, EmbeddingRunSpec, Processing, UpdatePolicy};
pub use status::{
    ChunkCounts, CollectionStatus, DenseModelStatus, EmbeddingRunStatus, FallbackReason, FallbackSource, HistoryEntry,
    Outcome, Phase, Progress, StageStatus, SummaryRef,
};

/// The label that names the run on every child object.
pub const LABEL_RUN: &str = "embedrun.dev/run";
/// The label that names the revision on every child object.
pub const LABEL_REVISION: &str = "embedrun.dev/revision";
/// The label that names the stage (`plan`, `embed`, `finalize`) on every Job and pod.
pub const LABEL_STAGE: &str = "embedrun.dev/stage";
