//! `embedrun.dev/v1alpha1`: the `EmbeddingRun` custom resource.

mod collection;
mod collection_status;
mod conditions;
mod execution;
mod fallback;
mod labels;
mod model;
mod model_source;
mod output;
mod pipeline;
mod similarity;
mod spec;
mod stage_status;
mod status;
mod summary_ref;

pub use collection::{
    CollectionSpec, ConfigMapSource, FieldMapping, Format, HostPathVolume, ObjectStoreVolume, PvcVolume, SourceSpec,
};
pub use collection_status::{ChunkCounts, CollectionStatus, DenseModelStatus};
pub use conditions::{ConditionType, reason};
pub use execution::{ExecutionSpec, GpuSpec, HubSpec, ModelCacheSpec, QueueSpec};
pub use fallback::{FallbackReason, FallbackSource};
pub use labels::{LABEL_REVISION, LABEL_RUN, LABEL_STAGE};
pub use model::{DenseModelSpec, Dtype, ModelsSpec, Pooling, Precision, Prompts, RerankerSpec, SparseModelSpec};
pub use model_source::{ModelSource, ModelSourceError};
pub use output::{OutputFormat, OutputSpec, QdrantSpec, SecretKeyRef};
pub use pipeline::{CandidateFusion, FusionMethod, FusionSpec, GateSpec, KeyRef, QueriesSpec, RerankSpec, TogglesSpec};
pub use similarity::Similarity;
pub use spec::{DeletionPolicy, EmbeddingRun, EmbeddingRunSpec, Processing, UpdatePolicy};
pub use stage_status::StageStatus;
pub use status::{EmbeddingRunStatus, HistoryEntry, Outcome, Phase, Progress};
pub use summary_ref::SummaryRef;
