//! Execution fields: the accelerator, parallelism, retries, deadlines, queue, caches. None of them changes
//! what a run computes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::collection::PvcVolume;

/// The accelerator of the embed pods.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.count == 0 && has(self.claimTemplate))").message("count 0 asks for no accelerator, claimTemplate asks for one"))]
pub struct GpuSpec {
    /// The extended resource that pins a pod to an accelerator.
    #[serde(default = "default_resource_name")]
    #[schemars(length(min = 1, max = 253))]
    pub resource_name: String,
    /// How many accelerators each embed pod gets; 0 asks for none and computes on the CPU.
    #[serde(default = "default_count")]
    #[schemars(range(min = 0, max = 16))]
    pub count: u32,
    /// The most memory of each accelerator that the run may use, in bytes: a quantity such as `12Gi`, which is the
    /// default, or `max` for all that it has. It says nothing of a run on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 18), regex(pattern = r"^(max|[1-9][0-9]*(\.[0-9]+)?(k|Ki|[MGTP]i?)?)$"))]
    pub memory_ceiling: Option<String>,
    /// Whether a pod without a usable accelerator fails (true) or computes on the CPU and records the fallback.
    #[serde(default = "default_true")]
    pub required: bool,
    /// A ResourceClaimTemplate (dynamic resource allocation) instead of the extended resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_template: Option<String>,
    /// Labels that a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate, besides that of `resourceName`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
}

impl Default for GpuSpec {
    fn default() -> Self {
        Self {
            resource_name: default_resource_name(),
            count: default_count(),
            memory_ceiling: None,
            required: true,
            claim_template: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}

/// Parallelism, retries and deadlines.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionSpec {
    /// How many shards are embedded at the same time.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 10_000))]
    pub parallelism: u32,
    /// The largest number of chunks in a shard, the unit of retry and resume. Fixed once a revision is planned.
    #[serde(default = "default_shard_size")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub shard_size: u64,
    /// How often a shard is tried again after a failure that may pass.
    #[serde(default = "default_backoff")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit_per_index: u32,
    /// How many shards may fail before the run stops.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_failed_indexes: u32,
    /// The longest time that each Job may run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i64>,
    /// The longest time that a Job may wait for its first pod to start, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub start_deadline_seconds: Option<i64>,
    /// The image of the runner, in place of the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub runner_image: Option<String>,
}

impl Default for ExecutionSpec {
    fn default() -> Self {
        Self {
            parallelism: default_parallelism(),
            shard_size: default_shard_size(),
            backoff_limit_per_index: default_backoff(),
            max_failed_indexes: 0,
            active_deadline_seconds: None,
            start_deadline_seconds: None,
            runner_image: None,
        }
    }
}

/// A volume that keeps models fetched from a hub.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCacheSpec {
    /// The claim and folder of the cache.
    pub pvc: PvcVolume,
}

/// The Kueue queue that admits the Jobs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// The LocalQueue, in the namespace of the run.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn default_resource_name() -> String {
    "nvidia.com/gpu".into()
}

fn default_count() -> u32 {
    1
}

fn default_true() -> bool {
    true
}

fn default_parallelism() -> u32 {
    1
}

fn default_shard_size() -> u64 {
    200_000
}

fn default_backoff() -> u32 {
    3
}
