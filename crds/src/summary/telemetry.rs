//! Spans, metrics and events of a run.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// The device: `cpu`, or `cuda:0` and so on.
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
    /// The ceiling, in bytes; none where memory is no matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling_bytes: Option<u64>,
    /// What the figures are of: `process` (the resident set of the runner), `nvml` or `driver` (all that is in use on
    /// the device, as its management library or its driver reports it).
    #[serde(default = "process")]
    pub memory_source: String,
}

fn process() -> String {
    "process".to_owned()
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
