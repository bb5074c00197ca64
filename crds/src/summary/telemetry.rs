//! Spans, metrics and events of a run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Spans, metrics and events of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Telemetry {
    /// The time per span name.
    pub spans: Vec<SpanSummary>,
    /// The final values of the metrics, by name.
    pub metrics: BTreeMap<String, f64>,
    /// The mitigations of memory pressure; only the first ones if there are very many.
    pub mitigation_events: Vec<MitigationEvent>,
    /// The leases of the device: which model held it, when, and with how much memory.
    pub lease_events: Vec<LeaseEvent>,
    /// The throughput of the passes over time; only in the summary of a collection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<Sample>,
}

/// The lease of the device by one model for one pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseEvent {
    /// The shard; absent in the finalize stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// The stage: `dense`, `sparse` or `rerank`.
    pub stage: String,
    /// The name of the model.
    pub model: String,
    /// The device: `cpu`, or `cuda:0` and so on.
    pub device: String,
    /// The time at which the lease was acquired, RFC 3339, UTC.
    pub acquired_at: String,
    /// The time at which the lease was released, RFC 3339, UTC.
    pub released_at: String,
    /// The memory in use before the model was loaded, in bytes.
    pub bytes_before: u64,
    /// The peak memory in use during the lease, in bytes.
    pub bytes_peak: u64,
    /// The memory in use after the model was released, in bytes.
    pub bytes_after: u64,
    /// The memory ceiling in bytes; absent if memory is not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling_bytes: Option<u64>,
    /// The source of the memory figures: `process` (the resident set of the runner), `nvml` (the memory in use on the
    /// device by its management library) or `driver` (the same by its driver).
    #[serde(default = "process")]
    pub memory_source: String,
}

fn process() -> String {
    "process".to_owned()
}

/// A mitigation of memory pressure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MitigationEvent {
    /// The shard; absent in the finalize stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// The stage: `dense`, `sparse` or `rerank`.
    pub stage: String,
    /// The name of the model.
    pub model: String,
    /// The kind of mitigation.
    pub kind: MitigationKind,
    /// The time of the mitigation, RFC 3339, UTC.
    pub at: String,
    /// The token budget of a batch before, in tokens.
    pub tokens_before: u64,
    /// The token budget of a batch after, in tokens.
    pub tokens_after: u64,
    /// The memory in use, in bytes.
    pub used_bytes: u64,
    /// The memory ceiling, in bytes.
    pub ceiling_bytes: u64,
}

/// The kind of a mitigation of memory pressure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum MitigationKind {
    /// Batches became smaller before memory ran out.
    Shrink,
    /// A batch ran out of memory and was computed in halves.
    Split,
    /// Batches became larger again.
    Recover,
}

/// The throughput of a pass in one interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// The shard; absent in the finalize stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
    /// The stage: `dense`, `sparse` or `rerank`.
    pub stage: String,
    /// The name of the model.
    pub model: String,
    /// The end of the interval, RFC 3339, UTC.
    pub at: String,
    /// The length of the interval, in milliseconds.
    pub millis: u64,
    /// The tokens computed in the interval.
    pub tokens: u64,
    /// The memory in use at the end of the interval, in bytes.
    pub used_bytes: u64,
}

/// The spans with one name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpanSummary {
    /// The name: `rag.plan`, `rag.dense`, `rag.export`, …
    pub name: String,
    /// The number of spans.
    pub count: u64,
    /// Their total time, in seconds.
    pub seconds: f64,
}
