//! Execution fields: accelerator, parallelism, retries, deadlines, queue, caches. None of them changes the output of a
//! run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{collection::PvcVolume, output::SecretKeyRef};

/// The accelerators of the embed pods; a finalize pod that reranks gets at most one.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.count == 0 && has(self.claimTemplate))").message("claimTemplate requests an accelerator, but count is 0: remove claimTemplate or raise count"))]
pub struct GpuSpec {
    /// The extended resource of the accelerators, in the limits of the pods. Default `nvidia.com/gpu`.
    #[serde(default = "default_resource_name")]
    #[schemars(length(min = 1, max = 253))]
    pub resource_name: String,
    /// The number of accelerators per embed pod. Default 1; 0 computes on the CPU.
    #[serde(default = "default_count")]
    #[schemars(range(min = 0, max = 16))]
    pub count: u32,
    /// The memory that the run may use on each accelerator: a quantity of bytes such as `12Gi` (the default), or `max`
    /// for all of it. Without effect on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 18), regex(pattern = r"^(max|[1-9][0-9]*(\.[0-9]+)?(k|Ki|[MGTP]i?)?)$"))]
    pub memory_ceiling: Option<String>,
    /// Whether a pod fails if its accelerators cannot be used. Default true. With false it continues with fewer
    /// accelerators or on the CPU and records the fallback.
    #[serde(default = "default_true")]
    pub required: bool,
    /// The name of a ResourceClaimTemplate (dynamic resource allocation), in place of the extended resource. Not
    /// implemented yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub claim_template: Option<String>,
    /// Labels that a node must have to run a pod with an accelerator.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that pods with an accelerator tolerate, in addition to the taint named like `resourceName`.
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
    /// The number of shards that are embedded at the same time. Default 1.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 10_000))]
    pub parallelism: u32,
    /// The largest number of chunks per shard, the unit of retry and resume. Default 200000. A change does not affect a
    /// revision that is already planned.
    #[serde(default = "default_shard_size")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub shard_size: u64,
    /// The number of retries per shard after a transient failure. Default 3.
    #[serde(default = "default_backoff")]
    #[schemars(range(min = 0, max = 100))]
    pub backoff_limit_per_index: u32,
    /// The number of shards that may fail before the whole embed Job is stopped. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_failed_indexes: u32,
    /// The longest time that each Job may run, in seconds. No limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub active_deadline_seconds: Option<i64>,
    /// The longest time that a Job may wait for its first pod to start, in seconds. No limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub start_deadline_seconds: Option<i64>,
    /// The image of the runner. Default: the image that the operator is configured with.
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

/// The hub that models with a source `hf://…` come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubSpec {
    /// The key of a Secret that holds a token of the hub, for private and gated repositories. It is mounted as a file,
    /// into the pods that ask the hub and no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeyRef>,
}

/// A volume that keeps models fetched from a hub. Not implemented yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCacheSpec {
    /// The claim and the folder of the cache.
    pub pvc: PvcVolume,
}

/// The Kueue queue that admits the Jobs. Not implemented yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueSpec {
    /// The name of the LocalQueue, in the namespace of the run.
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
