//! The harness does what a cluster does: the tests of everything else stand on this.

use std::collections::HashSet;
use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Cluster, ClusterOptions, Image, Namespace, PodSecurity};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, Pod};
use kube::api::{DeleteParams, EvictParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    harness::suite::run(
        || Ok(ClusterOptions::default()),
        harness::tests![
            a_job_reports_its_exit_code_and_termination_message,
            an_indexed_job_gets_no_more_gpus_than_there_are,
            a_failing_index_is_retried_and_others_complete,
            an_evicted_pod_is_replaced_and_not_counted_as_a_failure,
            a_container_sees_its_volumes,
            a_container_sees_its_environment,
            a_service_account_token_opens_the_api_server,
            a_deleted_pod_gets_sigterm_and_its_grace_period,
            a_container_that_ignores_sigterm_is_killed,
            a_restricted_namespace_admits_only_pods_that_conform,
            an_unknown_image_makes_the_pod_wait,
            a_missing_config_map_makes_the_pod_wait,
            an_init_container_runs_before_the_others,
            a_crashing_container_is_started_again,
            an_unhealthy_container_is_started_again,
            a_pod_past_its_deadline_fails,
            a_deployment_becomes_ready_when_its_probe_succeeds,
            kubectl_applies_and_helm_lists,
        ],
    )
}

/// A pod of the shell image that conforms to the restricted standard.
fn shell_pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": shell_spec(script),
    })
}

fn shell_spec(script: &str) -> Value {
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

/// `base` with `changes` merged into it, as a JSON merge patch does.
fn with(mut base: Value, pointer: &str, changes: &Value) -> Value {
    let target = base.pointer_mut(pointer).expect("the pointer leads somewhere");
    for (key, value) in changes.as_object().into_iter().flatten() {
        target[key] = value.clone();
    }
    base
}

const CONTAINER: &str = "/spec/containers/0";

fn pods(cluster: &Cluster, namespace: &Namespace) -> Api<Pod> {
    Api::namespaced(cluster.client(), namespace)
}

fn jobs(cluster: &Cluster, namespace: &Namespace) -> Api<Job> {
    Api::namespaced(cluster.client(), namespace)
}

async fn create_pod(cluster: &Cluster, namespace: &Namespace, pod: Value) -> Result<Pod> {
    let pod = serde_json::from_value(pod)?;
    Ok(pods(cluster, namespace).create(&PostParams::default(), &pod).await?)
}

async fn create_job(cluster: &Cluster, namespace: &Namespace, name: &str, spec: Value) -> Result<()> {
    let job = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
    jobs(cluster, namespace).create(&PostParams::default(), &job).await?;
    Ok(())
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn state(pod: &Pod) -> ContainerState {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref()?.first()?.state.clone())
        .unwrap_or_default()
}

fn waiting_reason(pod: &Pod) -> Option<String> {
    state(pod).waiting?.reason
}

/// Waits until the pod is as `wanted`.
async fn pod_that(
    cluster: &Cluster,
    namespace: &Namespace,
    name: &str,
    what: &str,
    wanted: impl Fn(&Pod) -> bool,
) -> Result<Pod> {
    let api = pods(cluster, namespace);
    cluster
        .wait_for(namespace, &format!("{name}: {what}"), LIMIT, async || Ok(api.get_opt(name).await?.filter(&wanted)))
        .await
}

/// Runs a pod to its end, and returns its log if it succeeds.
async fn output_of(cluster: &Cluster, namespace: &Namespace, pod: Value) -> Result<String> {
    let name = create_pod(cluster, namespace, pod).await?.name_any();
    let ended =
        pod_that(cluster, namespace, &name, "an end", |pod| matches!(phase(pod), "Succeeded" | "Failed")).await?;
    let log = cluster.logs(namespace, &name)?;
    ensure!(phase(&ended) == "Succeeded", "{:?}\n{log}", state(&ended));
    Ok(log)
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
            let refused = list.iter().filter(|pod| is_unschedulable(pod)).count();
            Ok((refused == 12).then_some(()))
        })
        .await?;
    cluster.set_gpus(8).await?;

    let mut most = 0;
    let deadline = Instant::now() + LIMIT;
    loop {
        let list = api.list(&ListParams::default()).await?;
        let active = list
            .iter()
            .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
            .filter(|pod| matches!(phase(pod), "Pending" | "Running"))
            .count();
        most = most.max(active);
        let job = jobs(cluster, &namespace).get("embed").await?;
        let status = job.status.unwrap_or_default();
        if status.succeeded == Some(12) {
            assert_eq!(status.completed_indexes.as_deref(), Some("0-11"));
            break;
        }
        ensure!(Instant::now() < deadline, cluster.report(&namespace).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(most, 8, "there are 8 GPUs and 12 pods that want one");
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
    // Index 0 is fine, 1 has bad input (exit 3: not to be retried), 2 fails in passing (retried once).
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

async fn a_container_sees_its_volumes(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("volumes", PodSecurity::Restricted).await?;
    let directory = cluster.folder().join("shared-data");
    cluster.volume(&namespace, "data", &directory).await?;
    fs::create_dir_all(directory.join("in"))?;
    fs::write(directory.join("in/chunks"), "the chunks")?;
    cluster
        .kubectl_with_input(
            &["apply", "-n", &namespace, "-f", "-"],
            r#"{"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "immutable": true,
                 "data": {"run.json": "{}", "other": "x"}},
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "secret"},
                 "stringData": {"key": "open sesame"}}
            ]}"#,
        )
        .await?;

    let script = "set -e
        test \"$(ls /config)\" = run.json; test \"$(cat /config/run.json)\" = '{}'
        test \"$(stat -c %a /secret/key)\" = 400; test \"$(cat /secret/key)\" = 'open sesame'
        test \"$(cat /data/chunks)\" = 'the chunks'
        if echo x > /data/chunks; then echo 'a read-only mount was written to'; exit 1; fi
        if touch /anywhere; then echo 'the root file system was written to'; exit 1; fi
        echo vectors > /out/vectors; echo x > /scratch/x
        test \"$(cat /pod/labels)\" = 'app=\"embed\"'
        test -s /pod/token; grep -q CERTIFICATE /pod/ca.crt
        test \"$(id -u)\" = 65532";
    let pod = with(
        shell_pod("reader", script),
        "/spec",
        &json!({"volumes": [
            {"name": "config", "configMap": {"name": "config", "items": [{"key": "run.json", "path": "run.json"}]}},
            {"name": "secret", "secret": {"secretName": "secret", "defaultMode": 0o400}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "pod", "projected": {"sources": [
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt"}},
            ]}},
        ]}),
    );
    let pod = with(
        pod,
        CONTAINER,
        &json!({"volumeMounts": [
            {"name": "config", "mountPath": "/config"},
            {"name": "secret", "mountPath": "/secret"},
            {"name": "data", "mountPath": "/data", "subPath": "in", "readOnly": true},
            {"name": "data", "mountPath": "/out", "subPath": "made/by/kubelet"},
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "pod", "mountPath": "/pod"},
        ]}),
    );
    let pod = with(pod, "/metadata", &json!({"labels": {"app": "embed"}}));
    let pod = with(pod, "/spec/containers/0/securityContext", &json!({"readOnlyRootFilesystem": true}));
    output_of(cluster, &namespace, pod).await?;
    let written = fs::read_to_string(directory.join("made/by/kubelet/vectors"))?;
    assert_eq!(written, "vectors\n");
    Ok(())
}

async fn a_container_sees_its_environment(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("environment", PodSecurity::Restricted).await?;
    cluster.kubectl(&["create", "configmap", "settings", "-n", &namespace, "--from-literal=COLOR=blue"]).await?;
    let pod = with(
        shell_pod("reader", "echo $NODE $POD $CPUS $COLOR $PREFIXED_COLOR $(GREETING) $ABSENT."),
        CONTAINER,
        &json!({
            "envFrom": [{"prefix": "PREFIXED_", "configMapRef": {"name": "settings"}}],
            "env": [
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "COLOR"}}},
                {"name": "ABSENT", "valueFrom": {
                    "secretKeyRef": {"name": "absent", "key": "key", "optional": true}}},
                {"name": "GREETING", "value": "hello from $(POD)"},
            ],
            "resources": {"limits": {"cpu": "2", "memory": "64Mi"}},
        }),
    );
    let output = output_of(cluster, &namespace, pod).await?;
    assert_eq!(output, "node-1 reader 2 blue blue hello from reader .\n");
    Ok(())
}

async fn a_service_account_token_opens_the_api_server(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("token", PodSecurity::Restricted).await?;
    let script = "exec python3 -c '
import os, ssl, urllib.request
mount = \"/var/run/secrets/kubernetes.io/serviceaccount/\"
host, port = os.environ[\"KUBERNETES_SERVICE_HOST\"], os.environ[\"KUBERNETES_SERVICE_PORT\"]
request = urllib.request.Request(f\"https://{host}:{port}/version\")
request.add_header(\"Authorization\", \"Bearer \" + open(mount + \"token\").read())
print(urllib.request.urlopen(request, context=ssl.create_default_context(cafile=mount + \"ca.crt\")).status)
'";
    let output = output_of(cluster, &namespace, shell_pod("caller", script)).await?;
    assert_eq!(output, "200\n");
    Ok(())
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

async fn a_restricted_namespace_admits_only_pods_that_conform(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("restricted", PodSecurity::Restricted).await?;
    let root = with(shell_pod("root", "true"), "/spec", &json!({"securityContext": {}}));
    let error = create_pod(cluster, &namespace, root).await.err();
    let error = error.context("a pod that may run as root is refused")?.to_string();
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

async fn a_crashing_container_is_started_again(cluster: &Cluster) -> Result<()> {
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

async fn an_unhealthy_container_is_started_again(cluster: &Cluster) -> Result<()> {
    let namespace = cluster.namespace("liveness", PodSecurity::Restricted).await?;
    let pod = with(
        shell_pod("silent", "trap 'exit 0' TERM; while :; do sleep 0.1; done"),
        CONTAINER,
        // Nobody listens on port 1.
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
