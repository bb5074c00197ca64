//! What the Job controller does when pods end.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, Namespace, PodSecurity, Test};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{EvictParams, ListParams};
use serde_json::json;

use crate::setup::{CONTAINER, LIMIT, create_job, jobs, phase, pods, shell_spec, state, with};

pub(crate) fn tests() -> Vec<Test> {
    harness::tests![
        a_job_reports_its_exit_code_and_termination_message,
        an_indexed_job_gets_no_more_gpus_than_there_are,
        a_failing_index_is_retried_and_others_complete,
        an_evicted_pod_is_replaced_and_not_counted_as_a_failure,
    ]
}

async fn a_job_reports_its_exit_code_and_termination_message(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("job", PodSecurity::Restricted).await?;
    let script = "echo working; printf the-message > /dev/termination-log; exit 3";
    let template = json!({"spec": shell_spec(script)});
    create_job(cluster, &namespace, "failing", json!({"backoffLimit": 0, "template": template})).await?;
    job_condition(cluster, &namespace, "failing", "Failed").await?;

    let list = pods(cluster, &namespace).list(&ListParams::default()).await?;
    let [pod] = &list.items[..] else {
        anyhow::bail!("one pod was expected: {list:?}");
    };
    let end = state(pod).terminated.context("the container has ended")?;
    assert_eq!((end.exit_code, end.reason.as_deref()), (3, Some("Error")));
    assert_eq!(end.message.as_deref(), Some("the-message"));
    assert_eq!(cluster.logs(&namespace, &pod.name_any())?, "working\n");
    Ok(())
}

async fn an_indexed_job_gets_no_more_gpus_than_there_are(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("gpus", PodSecurity::Restricted).await?;
    cluster.set_gpus(0).await?;
    let spec = with(
        json!({"spec": shell_spec("sleep 1; echo index $JOB_COMPLETION_INDEX")}),
        CONTAINER,
        &json!({"resources": {"limits": {"nvidia.com/gpu": 1}}}),
    );
    create_job(
        cluster,
        &namespace,
        "embed",
        json!({"completionMode": "Indexed", "completions": 12, "parallelism": 12, "template": spec}),
    )
    .await?;

    let api = pods(cluster, &namespace);
    cluster
        .wait_for(&namespace, "12 pods without a node", LIMIT, async || {
            let list = api.list(&ListParams::default()).await?;
            let unschedulable = list.iter().filter(|pod| is_unschedulable(pod)).count();
            Ok((unschedulable == 12).then_some(()))
        })
        .await?;
    cluster.set_gpus(8).await?;

    let mut peak = 0;
    let deadline = Instant::now() + LIMIT;
    loop {
        let list = api.list(&ListParams::default()).await?;
        let active = list
            .iter()
            .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
            .filter(|pod| matches!(phase(pod), "Pending" | "Running"))
            .count();
        peak = peak.max(active);
        let job = jobs(cluster, &namespace).get("embed").await?;
        let status = job.status.unwrap_or_default();
        if status.succeeded == Some(12) {
            assert_eq!(status.completed_indexes.as_deref(), Some("0-11"));
            break;
        }
        ensure!(Instant::now() < deadline, cluster.report(&namespace).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(peak, 8, "there are 8 GPUs and 12 pods that request one");
    let mut indices = HashSet::new();
    for pod in api.list(&ListParams::default()).await? {
        indices.insert(cluster.logs(&namespace, &pod.name_any())?);
    }
    assert_eq!(indices.len(), 12, "every pod knows its index: {indices:?}");
    Ok(())
}

fn is_unschedulable(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "PodScheduled" && condition.reason.as_deref() == Some("Unschedulable"))
}

async fn a_failing_index_is_retried_and_others_complete(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("indices", PodSecurity::Restricted).await?;
    // Index 0 succeeds, 1 has bad input (exit 3: no retry), 2 fails temporarily (one retry).
    let script = "case $JOB_COMPLETION_INDEX in 0) exit 0;; 1) exit 3;; 2) exit 75;; esac";
    create_job(
        cluster,
        &namespace,
        "embed",
        json!({
            "completionMode": "Indexed", "completions": 3, "parallelism": 3,
            "backoffLimitPerIndex": 1, "maxFailedIndexes": 3,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [{
                "action": "FailIndex",
                "onExitCodes": {"containerName": "main", "operator": "In", "values": [3]},
            }]},
            "template": {"spec": shell_spec(script)},
        }),
    )
    .await?;
    let job = job_condition(cluster, &namespace, "embed", "Failed").await?;
    let status = job.status.context("a failed Job has a status")?;
    assert_eq!(status.completed_indexes.as_deref(), Some("0"));
    assert_eq!(status.failed_indexes.as_deref(), Some("1,2"));
    let list = pods(cluster, &namespace).list(&ListParams::default()).await?;
    let mut attempts = [0; 3];
    for pod in list {
        let index = &pod.annotations()["batch.kubernetes.io/job-completion-index"];
        attempts[index.parse::<usize>()?] += 1;
    }
    assert_eq!(attempts, [1, 1, 2]);
    Ok(())
}

async fn an_evicted_pod_is_replaced_and_not_counted_as_a_failure(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("eviction", PodSecurity::Restricted).await?;
    let script = "trap 'exit 143' TERM; test -e /data/again && exit 0; touch /data/again
        while :; do sleep 0.1; done";
    let spec = with(
        json!({"spec": shell_spec(script)}),
        "/spec",
        &json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}),
    );
    let mounts = json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let directory = cluster.folder().join("eviction");
    cluster.volume(&namespace, "data", &directory).await?;
    create_job(
        cluster,
        &namespace,
        "evicted",
        json!({
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
            ]},
            "template": with(spec, CONTAINER, &mounts),
        }),
    )
    .await?;
    let api = pods(cluster, &namespace);
    let first = cluster
        .wait_for(&namespace, "the pod at work", LIMIT, async || {
            let at_work = directory.join("again").exists();
            let list = api.list(&ListParams::default()).await?;
            Ok(list.items.into_iter().next().filter(|_| at_work))
        })
        .await?;
    api.evict(&first.name_any(), &EvictParams::default()).await?;
    let job = job_condition(cluster, &namespace, "evicted", "Complete").await?;
    let status = job.status.context("a complete Job has a status")?;
    assert_eq!((status.succeeded, status.failed), (Some(1), None));
    Ok(())
}

async fn job_condition(cluster: &Cluster, namespace: &Namespace, name: &str, kind: &str) -> Result<Job> {
    let api = jobs(cluster, namespace);
    cluster
        .wait_for(namespace, &format!("{name}: {kind}"), LIMIT, async || {
            let job = api.get(name).await?;
            let conditions = job.status.iter().flat_map(|status| status.conditions.iter());
            let holds = conditions.flatten().any(|condition| condition.type_ == kind && condition.status == "True");
            Ok(holds.then_some(job))
        })
        .await
}
