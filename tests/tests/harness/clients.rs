//! A Deployment, kubectl and helm.

use anyhow::{Context, Result};
use harness::{Cluster, PodSecurity, Test};
use serde_json::json;

use crate::setup::{CONTAINER, shell_spec, with};

pub(crate) fn tests() -> Vec<Test> {
    harness::tests![a_deployment_becomes_ready_when_its_probe_succeeds, kubectl_applies_and_helm_lists,]
}

async fn a_deployment_becomes_ready_when_its_probe_succeeds(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("probe", PodSecurity::Restricted).await?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let script = format!("mkdir -p /tmp/www && cd /tmp/www && exec python3 -m http.server --bind 127.0.0.1 {port}");
    let spec = with(
        json!({"spec": shell_spec(&script)}),
        CONTAINER,
        &json!({
            "ports": [{"name": "http", "containerPort": port}],
            "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
        }),
    );
    let spec = with(spec, "/spec", &json!({"restartPolicy": "Always"}));
    let template = with(spec, "", &json!({"metadata": {"labels": {"app": "server"}}}));
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "server"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "server"}}, "template": template},
    });
    cluster.kubectl_with_input(&["apply", "-n", &namespace, "-f", "-"], &deployment.to_string()).await?;
    cluster.kubectl(&["rollout", "status", "deployment/server", "-n", &namespace, "--timeout=60s"]).await?;
    Ok(())
}

async fn kubectl_applies_and_helm_lists(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("clients", PodSecurity::Restricted).await?;
    let manifest = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}"#;
    let apply = ["apply", "-n", &namespace, "-f", "-"];
    assert_eq!(cluster.kubectl_with_input(&apply, manifest).await?, "configmap/a created\n");
    assert_eq!(cluster.kubectl_with_input(&apply, manifest).await?, "configmap/a unchanged\n");
    let releases = cluster.helm(&["list", "-n", &namespace, "-o", "json"]).await?;
    assert_eq!(releases.trim(), "[]");
    let error = cluster.kubectl(&["get", "nonsense"]).await.err();
    let error = error.context("an unknown resource is an error")?.to_string();
    assert!(error.contains("kubectl get nonsense"), "{error}");
    Ok(())
}
