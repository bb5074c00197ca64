//! The Node object of a kubelet.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::fields::ADDRESS;

/// The resource of GPUs.
pub(crate) const GPU: &str = "nvidia.com/gpu";

/// A node and the resources that it advertises. Its pods are not limited by them: they share this machine.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The name of the node.
    pub name: String,
    /// Cores, as a quantity.
    pub cpu: String,
    /// Memory, as a quantity.
    pub memory: String,
    /// The number of pods that it accepts.
    pub pods: u32,
    /// The number of its `nvidia.com/gpu`.
    pub gpus: u32,
    /// Labels in addition to the standard ones.
    pub labels: BTreeMap<String, String>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            name: "node-1".into(),
            cpu: "64".into(),
            memory: "512Gi".into(),
            pods: 250,
            gpus: 8,
            labels: BTreeMap::new(),
        }
    }
}

impl NodeOptions {
    /// The capacity of the node.
    pub(super) fn resources(&self) -> BTreeMap<String, Quantity> {
        [
            ("cpu", self.cpu.clone()),
            ("memory", self.memory.clone()),
            ("ephemeral-storage", "1Ti".to_owned()),
            ("pods", self.pods.to_string()),
            (GPU, self.gpus.to_string()),
        ]
        .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .into()
    }
}

/// Creates the node and makes it ready for pods.
pub(super) async fn register(client: &Client, options: &NodeOptions) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let mut labels = options.labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", options.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", architecture()),
    ] {
        labels.insert(key.into(), value.into());
    }
    let node = serde_json::from_value(json!({
        "metadata": {"name": options.name, "labels": labels},
    }))?;
    nodes
        .create(&PostParams::default(), &node)
        .await
        .with_context(|| format!("cannot create the node {}", options.name))?;

    let now = k8s_openapi::jiff::Timestamp::now();
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    };
    let status = json!({
        "capacity": options.resources(),
        "allocatable": options.resources(),
        "addresses": [
            {"type": "InternalIP", "address": ADDRESS},
            {"type": "Hostname", "address": options.name},
        ],
        "conditions": [
            condition("Ready", "True", "KubeletReady"),
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        ],
    });
    patch_status(&nodes, &options.name, status).await?;
    // Admission adds the not-ready taint, which the node lifecycle controller would remove.
    let untaint = json!({"spec": {"taints": null}});
    nodes
        .patch(&options.name, &PatchParams::default(), &Patch::Merge(untaint))
        .await
        .with_context(|| format!("cannot remove the taints of {}", options.name))?;
    Ok(())
}

/// Changes the resources of the node. Running pods are not evicted.
pub(super) async fn set_resources(client: &Client, options: &NodeOptions) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let status = json!({"capacity": options.resources(), "allocatable": options.resources()});
    patch_status(&nodes, &options.name, status).await
}

async fn patch_status(nodes: &Api<Node>, name: &str, status: serde_json::Value) -> Result<()> {
    let patch = Patch::Merge(json!({"status": status}));
    nodes
        .patch_status(name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("cannot set the status of the node {name}"))?;
    Ok(())
}

/// The architecture as Go names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
