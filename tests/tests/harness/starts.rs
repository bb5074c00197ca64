//! When a pod starts, and why it waits.

use anyhow::{Context, Result};
use harness::{Cluster, Image, PodSecurity, Test};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::setup::{CONTAINER, create_pod, output_of, phase, pod_that, shell_pod, state, with};

pub(crate) fn tests() -> Vec<Test> {
    harness::tests![
        a_restricted_namespace_admits_only_pods_that_conform,
        an_unknown_image_makes_the_pod_wait,
        a_missing_config_map_makes_the_pod_wait,
        an_init_container_runs_before_the_others,
    ]
}

async fn a_restricted_namespace_admits_only_pods_that_conform(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("restricted", PodSecurity::Restricted).await?;
    let root = with(shell_pod("root", "true"), "/spec", &json!({"securityContext": {}}));
    let error = create_pod(cluster, &namespace, root).await.err();
    let error = error.context("a pod that may run as root is rejected")?.to_string();
    assert!(error.contains("runAsNonRoot != true"), "{error}");
    output_of(cluster, &namespace, shell_pod("conforming", "true")).await?;
    Ok(())
}

async fn an_unknown_image_makes_the_pod_wait(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("image", PodSecurity::Restricted).await?;
    let pod = with(shell_pod("early", "true"), CONTAINER, &json!({"image": "example.test/late:v1"}));
    create_pod(cluster, &namespace, pod).await?;
    let waiting = pod_that(cluster, &namespace, "early", "ImagePullBackOff", |pod| {
        waiting_reason(pod).as_deref() == Some("ImagePullBackOff")
    })
    .await?;
    assert_eq!(phase(&waiting), "Pending");

    cluster.add_image("example.test/late", Image::of_binary("/bin/sh", "/usr/local/bin/shell"));
    pod_that(cluster, &namespace, "early", "success", |pod| phase(pod) == "Succeeded").await?;
    Ok(())
}

async fn a_missing_config_map_makes_the_pod_wait(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("missing", PodSecurity::Restricted).await?;
    let in_environment = with(
        shell_pod("in-environment", "true"),
        CONTAINER,
        &json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]}),
    );
    let in_volume = with(
        shell_pod("in-volume", "true"),
        "/spec",
        &json!({"volumes": [{"name": "late", "configMap": {"name": "late"}}]}),
    );
    for pod in [in_environment, in_volume] {
        create_pod(cluster, &namespace, pod).await?;
    }
    for (name, reason) in [("in-environment", "CreateContainerConfigError"), ("in-volume", "ContainerCreating")] {
        let waiting = pod_that(cluster, &namespace, name, reason, |pod| {
            let message = state(pod).waiting.and_then(|waiting| waiting.message);
            waiting_reason(pod).as_deref() == Some(reason)
                && message.is_some_and(|message| message.contains("configmap \"late\" not found"))
        })
        .await?;
        assert_eq!(phase(&waiting), "Pending");
    }
    cluster.kubectl(&["create", "configmap", "late", "-n", &namespace, "--from-literal=a=1"]).await?;
    for name in ["in-environment", "in-volume"] {
        pod_that(cluster, &namespace, name, "success", |pod| phase(pod) == "Succeeded").await?;
    }
    Ok(())
}

fn waiting_reason(pod: &Pod) -> Option<String> {
    state(pod).waiting?.reason
}

async fn an_init_container_runs_before_the_others(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("init", PodSecurity::Restricted).await?;
    let pod = shell_pod("ordered", "echo second >> /shared/order; cat /shared/order");
    let mut init = pod["spec"]["containers"][0].clone();
    init["name"] = json!("first");
    init["args"] = json!(["-c", "sleep 1; echo first >> /shared/order"]);
    let mounts = json!({"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]});
    let pod = with(pod, "/spec", &json!({"initContainers": [init], "volumes": [{"name": "shared", "emptyDir": {}}]}));
    let pod = with(with(pod, CONTAINER, &mounts), "/spec/initContainers/0", &mounts);
    assert_eq!(output_of(cluster, &namespace, pod).await?, "first\nsecond\n");
    Ok(())
}
