//! The chart, and the permissions of its ServiceAccount.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::Cluster;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use crate::setup::{LIMIT, SYSTEM, binary, free_port, operator, root};

pub(crate) async fn the_chart_lints_renders_and_rejects_wrong_values(cluster: &Cluster) -> Result<()> {
    let chart = root().join("charts/embedrun");
    let chart = chart.to_string_lossy();
    cluster.helm(&["lint", "--strict", &chart]).await?;
    let all = cluster
        .helm(&[
            "template",
            "r",
            &chart,
            "--set",
            "operator.watchNamespace=search",
            "--set",
            "runner.image.digest=sha256:\
            0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "--set",
            "runner.cudaImage.repository=embedrun/runner-cuda",
            "--set",
            "imagePullSecrets[0].name=pull",
        ])
        .await?;
    for word in [
        "kind: Role\n",
        "--watch-namespace=search",
        "runner@sha256:0123",
        "--runner-cuda-image=embedrun/runner-cuda:",
        "--image-pull-secret=pull",
    ] {
        ensure!(all.contains(word), "no {word:?}");
    }
    ensure!(!all.contains("kind: ClusterRole\n"), "one namespace needs no rights on the others");
    ensure!(all.contains("helm.sh/resource-policy: keep"), "the CRD outlives the chart");
    for wrong in ["operator.replicas=many", "operator.image.digest=sha256:short", "runner.imge.tag=x", "service.port=0"]
    {
        let rendered = cluster.helm(&["template", "r", &chart, "--set", wrong]).await;
        ensure!(rendered.is_err(), "{wrong} was accepted");
    }
    Ok(())
}

pub(crate) async fn the_operator_has_no_right_to_secrets(cluster: &Cluster) -> Result<()> {
    operator(cluster).await?;
    let account = format!("--as=system:serviceaccount:{SYSTEM}:embedrun-operator");
    let may = async |verb: &str, resource: &str| -> bool {
        let answer = cluster.kubectl(&["auth", "can-i", verb, resource, "-A", &account]).await;
        answer.is_ok_and(|answer| answer.trim() == "yes")
    };
    ensure!(may("create", "jobs.batch").await, "the operator makes Jobs");
    for (verb, resource) in [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods"),
        ("list", "configmaps"),
        ("delete", "configmaps"),
        ("update", "embeddingruns.embedrun.dev"),
        ("get", "nodes"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("impersonate", "users"),
        ("create", "pods/exec"),
    ] {
        ensure!(!may(verb, resource).await, "the operator may {verb} {resource}");
    }
    Ok(())
}

pub(crate) async fn the_operator_serves_metrics(cluster: &Cluster) -> Result<()> {
    let port = operator(cluster).await?;
    ensure!(get(port, "/healthz").await?.ends_with("ok"));
    ensure!(get(port, "/readyz").await?.ends_with("ok"));
    let metrics = get(port, "/metrics").await?;
    for name in [
        "embedrun_leader 1",
        "embedrun_reconciliations_total{result=\"ok\"}",
        "embedrun_runs{phase=\"Succeeded\"}",
        "rag_chunks_total",
    ] {
        ensure!(metrics.contains(name), "no {name} in\n{metrics}");
    }
    Ok(())
}

/// One operator leads at any time. Which one depends on the other tests, which restart the first.
pub(crate) async fn a_second_operator_stands_by_and_stops_on_sigterm(cluster: &Cluster) -> Result<()> {
    let (first, second) = (operator(cluster).await?, free_port()?);
    let address = format!("--http-address=127.0.0.1:{second}");
    let namespace = format!("--lease-namespace={SYSTEM}");
    let mut standby = Command::new(binary("embedrun-operator")?)
        .args(["--runner-image=embedrun.test/runner", &address, &namespace, "--identity=standby"])
        .env("KUBECONFIG", cluster.kubeconfig())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let leads = async |port: u16| -> Result<bool> {
        ensure!(get(port, "/readyz").await?.ends_with("ok"), "not ready");
        Ok(get(port, "/metrics").await?.contains("\nembedrun_leader 1"))
    };
    cluster
        .wait_for(SYSTEM, "two operators of which one leads", LIMIT, async || {
            Ok((leads(first).await? != leads(second).await?).then_some(()))
        })
        .await?;
    let pid = standby.id().context("the standby has ended")?.to_string();
    ensure!(Command::new("kill").args(["-TERM", &pid]).status().await?.success());
    let status = timeout(Duration::from_secs(30), standby.wait()).await.context("the standby does not stop")??;
    ensure!(status.success(), "{status}");
    Ok(())
}

pub(crate) async fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.context("the operator does not listen")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
