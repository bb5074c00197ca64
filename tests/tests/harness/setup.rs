//! Pods and Jobs of the shell image, and helpers that read their state.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Cluster, Namespace};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

/// The limit of every wait, long enough for a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A pod of the shell image that conforms to the restricted standard.
pub(crate) fn shell_pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": shell_spec(script),
    })
}

pub(crate) fn shell_spec(script: &str) -> Value {
    json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "main",
            "image": "sh:latest",
            "args": ["-c", script],
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
    })
}

/// `base` with the fields of `changes` set at `pointer`.
pub(crate) fn with(mut base: Value, pointer: &str, changes: &Value) -> Value {
    let target = base.pointer_mut(pointer).expect("the pointer exists");
    for (key, value) in changes.as_object().into_iter().flatten() {
        target[key] = value.clone();
    }
    base
}

pub(crate) const CONTAINER: &str = "/spec/containers/0";

pub(crate) fn pods(cluster: &Cluster, namespace: &Namespace) -> Api<Pod> {
    Api::namespaced(cluster.client(), namespace)
}

pub(crate) fn jobs(cluster: &Cluster, namespace: &Namespace) -> Api<Job> {
    Api::namespaced(cluster.client(), namespace)
}

pub(crate) async fn create_pod(cluster: &Cluster, namespace: &Namespace, pod: Value) -> Result<Pod> {
    let pod = serde_json::from_value(pod)?;
    Ok(pods(cluster, namespace).create(&PostParams::default(), &pod).await?)
}

pub(crate) async fn create_job(cluster: &Cluster, namespace: &Namespace, name: &str, spec: Value) -> Result<()> {
    let job = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
    jobs(cluster, namespace).create(&PostParams::default(), &job).await?;
    Ok(())
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn state(pod: &Pod) -> ContainerState {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref()?.first()?.state.clone())
        .unwrap_or_default()
}

/// Waits until the pod fulfils `predicate`; `what` describes it in errors.
pub(crate) async fn pod_that(
    cluster: &Cluster,
    namespace: &Namespace,
    name: &str,
    what: &str,
    predicate: impl Fn(&Pod) -> bool,
) -> Result<Pod> {
    let api = pods(cluster, namespace);
    cluster
        .wait_for(namespace, &format!("{name}: {what}"), LIMIT, async || {
            Ok(api.get_opt(name).await?.filter(&predicate))
        })
        .await
}

/// Runs a pod to its end. Returns its log if it succeeds.
pub(crate) async fn output_of(cluster: &Cluster, namespace: &Namespace, pod: Value) -> Result<String> {
    let name = create_pod(cluster, namespace, pod).await?.name_any();
    let ended =
        pod_that(cluster, namespace, &name, "an end", |pod| matches!(phase(pod), "Succeeded" | "Failed")).await?;
    let log = cluster.logs(namespace, &name)?;
    ensure!(phase(&ended) == "Succeeded", "{:?}\n{log}", state(&ended));
    Ok(log)
}
