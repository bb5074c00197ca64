//! How containers end, and when they restart.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use harness::{Cluster, Namespace, PodSecurity, Test};
use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;

use crate::setup::{CONTAINER, LIMIT, create_pod, phase, pod_that, pods, shell_pod, state, with};

pub(crate) fn tests() -> Vec<Test> {
    harness::tests![
        a_deleted_pod_gets_sigterm_and_its_grace_period,
        a_container_that_ignores_sigterm_is_killed,
        a_crashing_container_restarts,
        an_unhealthy_container_restarts,
        a_pod_past_its_deadline_fails,
    ]
}

async fn a_deleted_pod_gets_sigterm_and_its_grace_period(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("sigterm", PodSecurity::Restricted).await?;
    let script = "trap 'echo saving; sleep 1; echo saved; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    create_pod(cluster, &namespace, shell_pod("polite", script)).await?;
    pod_that(cluster, &namespace, "polite", "its trap", |_| {
        cluster.logs(&namespace, "polite").is_ok_and(|log| log == "ready\n")
    })
    .await?;
    delete_and_wait(cluster, &namespace, "polite").await?;
    assert_eq!(cluster.logs(&namespace, "polite")?, "ready\nsaving\nsaved\n");
    Ok(())
}

async fn a_container_that_ignores_sigterm_is_killed(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("sigkill", PodSecurity::Restricted).await?;
    let pod = with(
        shell_pod("stubborn", "trap '' TERM; while :; do date +%s%N > /data/beat; sleep 0.1; done"),
        "/spec",
        &json!({
            "terminationGracePeriodSeconds": 1,
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        }),
    );
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let directory = cluster.folder().join("heartbeat");
    cluster.volume(&namespace, "data", &directory).await?;
    create_pod(cluster, &namespace, with(pod, CONTAINER, &mounts)).await?;
    let beat = || fs::read_to_string(directory.join("beat")).unwrap_or_default();
    pod_that(cluster, &namespace, "stubborn", "a heartbeat", |_| !beat().is_empty()).await?;

    let began = Instant::now();
    delete_and_wait(cluster, &namespace, "stubborn").await?;
    assert!(began.elapsed() >= Duration::from_secs(1), "the grace period was cut short");
    let last = beat();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(beat(), last, "the process outlived its pod");
    Ok(())
}

async fn delete_and_wait(cluster: &Cluster, namespace: &Namespace, name: &str) -> Result<()> {
    let api = pods(cluster, namespace);
    api.delete(name, &DeleteParams::default()).await?;
    cluster
        .wait_for(namespace, &format!("the end of {name}"), LIMIT, async || {
            Ok(api.get_opt(name).await?.is_none().then_some(()))
        })
        .await
}

async fn a_crashing_container_restarts(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("restart", PodSecurity::Restricted).await?;
    let pod = with(shell_pod("crashing", "echo try; exit 7"), "/spec", &json!({"restartPolicy": "OnFailure"}));
    create_pod(cluster, &namespace, pod).await?;
    let pod = pod_that(cluster, &namespace, "crashing", "two restarts", |pod| restarts(pod) >= 2).await?;
    assert_eq!(phase(&pod), "Running");
    let status = pod.status.and_then(|status| status.container_statuses);
    let last = status.and_then(|statuses| statuses[0].last_state.clone()?.terminated);
    assert_eq!(last.map(|end| end.exit_code), Some(7));
    assert!(cluster.logs(&namespace, "crashing")?.starts_with("try\ntry\n"));
    Ok(())
}

async fn an_unhealthy_container_restarts(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("liveness", PodSecurity::Restricted).await?;
    let pod = with(
        shell_pod("silent", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        CONTAINER,
        // No process listens on port 1.
        &json!({"livenessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 1, "failureThreshold": 1}}),
    );
    let pod = with(pod, "/spec", &json!({"restartPolicy": "Always"}));
    create_pod(cluster, &namespace, pod).await?;
    pod_that(cluster, &namespace, "silent", "a restart", |pod| restarts(pod) >= 1).await?;
    Ok(())
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.map_or(0, |statuses| statuses[0].restart_count)
}

async fn a_pod_past_its_deadline_fails(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("deadline", PodSecurity::Restricted).await?;
    let pod = with(
        shell_pod("slow", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        "/spec",
        &json!({"activeDeadlineSeconds": 1}),
    );
    create_pod(cluster, &namespace, pod).await?;
    let pod = pod_that(cluster, &namespace, "slow", "Failed", |pod| {
        phase(pod) == "Failed" && state(pod).terminated.is_some()
    })
    .await?;
    let reason = pod.status.and_then(|status| status.reason);
    assert_eq!(reason.as_deref(), Some("DeadlineExceeded"));
    Ok(())
}
