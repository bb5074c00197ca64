//! The life of a run: applied again, changed, suspended, deleted, its operator restarted.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use crds::{
    pointer::Pointer,
    v1alpha1::{ConditionType, Phase},
};
use harness::Cluster;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use tokio::time::sleep;

use crate::setup::{LIMIT, Workspace, condition, records, restart_operator};

/// The Jobs of the namespace: name and unique id.
async fn jobs(workspace: &Workspace<'_>) -> Result<Vec<(String, Option<String>)>> {
    let jobs: Api<Job> = Api::namespaced(workspace.cluster.client(), &workspace.namespace);
    Ok(jobs.list(&ListParams::default()).await?.iter().map(|job| (job.name_any(), job.uid())).collect())
}

pub(crate) async fn a_second_apply_does_nothing(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "twice").await?;
    workspace.write("a.jsonl", &records("a", 4))?;
    let manifest = workspace.manifest("twice", json!({}));
    workspace.apply(&manifest).await?;
    workspace.succeeded("twice").await?;
    // The result is recorded before the last reconciliation of the Jobs.
    sleep(Duration::from_secs(3)).await;
    let before = (workspace.runs().get("twice").await?, jobs(&workspace).await?);
    workspace.apply(&manifest).await?;
    sleep(Duration::from_secs(3)).await;
    let after = (workspace.runs().get("twice").await?, jobs(&workspace).await?);
    ensure!(before.0.resource_version() == after.0.resource_version() && before.1 == after.1, "{before:?}\n{after:?}");

    // Deleting the Jobs does not start new ones.
    workspace.kubectl(&["delete", "jobs", "--all"]).await?;
    sleep(Duration::from_secs(3)).await;
    ensure!(jobs(&workspace).await?.is_empty());
    ensure!(workspace.succeeded("twice").await?.phase == Some(Phase::Succeeded));

    // A new object finds the revision complete in the store.
    workspace.kubectl(&["delete", "erun", "twice"]).await?;
    workspace.apply(&manifest).await?;
    let status = workspace.succeeded("twice").await?;
    ensure!(condition(&status, ConditionType::Complete)?.reason == "AlreadyUpToDate");
    ensure!(status.collections[0].chunks.total == 4, "{:?}", status.collections);
    let names: Vec<String> = jobs(&workspace).await?.into_iter().map(|(name, _)| name).collect();
    ensure!(names.len() == 1 && names[0].ends_with("-plan"), "{names:?}");

    // It also finds that the source is not what it was.
    workspace.write("b.jsonl", &records("b", 2))?;
    workspace.kubectl(&["delete", "erun", "twice"]).await?;
    workspace.apply(&manifest).await?;
    let status = workspace.succeeded("twice").await?;
    let complete = condition(&status, ConditionType::Complete)?;
    ensure!(complete.reason == "AlreadyUpToDate", "{complete:?}");
    for word in ["the source has changed", "1 added: b.jsonl", "spec.sourceRevision"] {
        ensure!(complete.message.contains(word), "no {word:?} in {:?}", complete.message);
    }
    let events = workspace.kubectl(&["get", "events", "--field-selector", "type=Warning"]).await?;
    ensure!(events.contains("the source has changed"), "{events}");
    Ok(())
}

pub(crate) async fn a_second_run_with_the_same_output_does_not_move_its_readers(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "owner").await?;
    workspace.write("a.jsonl", &records("a", 3))?;
    workspace.apply(&workspace.manifest("prod", json!({}))).await?;
    workspace.succeeded("prod").await?;
    let pointer = workspace.vectors.join("current/chunks");
    let before = fs::read(&pointer)?;
    let owner = Pointer::parse(&before)?.claim.context("a claim")?.run;
    let uid = workspace.runs().get("prod").await?.uid();
    ensure!(owner.to_string() == format!("{}/prod", &*workspace.namespace) && Some(owner.uid) == uid);

    workspace.apply(&workspace.manifest("dev", json!({"rerunToken": "mine"}))).await?;
    let status = workspace.ended("dev").await?;
    let failed = condition(&status, ConditionType::Failed)?;
    ensure!((failed.status.as_str(), failed.reason.as_str()) == ("True", "OutputConflict"), "{failed:?}");
    for word in ["current/chunks", "/prod owns it", "spec.output"] {
        ensure!(failed.message.contains(word), "no {word:?} in {:?}", failed.message);
    }
    ensure!(fs::read(&pointer)? == before, "readers were moved by another run");
    let stages: Vec<String> = jobs(&workspace).await?.into_iter().map(|(name, _)| name).collect();
    ensure!(!stages.iter().any(|name| name.starts_with("dev-") && name.ends_with("-embed")), "{stages:?}");
    Ok(())
}

pub(crate) async fn a_changed_manifest_is_a_new_revision(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "changed").await?;
    workspace.write("a.jsonl", &records("a", 3))?;
    // The first revision never gets a node; the second does not wait for it.
    workspace.apply(&workspace.manifest("changed", json!({"gpu": {"nodeSelector": {"never": "there"}}}))).await?;
    let first = workspace.status("changed", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    workspace
        .apply(&workspace.manifest("changed", json!({"gpu": {"nodeSelector": null}, "sourceRevision": "2"})))
        .await?;
    let second = workspace.succeeded("changed").await?;
    ensure!(first.revision != second.revision);
    let history: Vec<_> =
        second.history.iter().map(|entry| (Some(entry.revision.clone()), entry.reason.as_str())).collect();
    ensure!(history == [(second.revision.clone(), "Succeeded"), (first.revision.clone(), "Replaced")], "{history:?}");
    let current = Pointer::parse(&fs::read(workspace.vectors.join("current/chunks"))?)?;
    ensure!(Some(current.revision.as_str()) == second.revision.as_deref(), "{current:?}");
    Ok(())
}

pub(crate) async fn a_restarted_operator_loses_nothing(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "restart").await?;
    workspace.write("a.jsonl", &records("a", 25))?;
    workspace.apply(&workspace.manifest("restart", workspace.held(json!({})))).await?;
    workspace.status("restart", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    let before = jobs(&workspace).await?;

    restart_operator(cluster).await?;
    // The pods continue without an operator.
    workspace.release().await?;

    let status = workspace.succeeded("restart").await?;
    ensure!(status.progress.is_some_and(|progress| progress.shards_done == 3));
    let after = jobs(&workspace).await?;
    ensure!(before.iter().all(|job| after.contains(job)), "a Job was created again: {before:?} {after:?}");
    Ok(())
}

pub(crate) async fn a_suspended_run_resumes_and_its_jobs_expire(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "pause").await?;
    workspace.write("a.jsonl", &records("a", 3))?;
    workspace.apply(&workspace.manifest("pause", workspace.held(json!({})))).await?;
    workspace.status("pause", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    workspace.patch("pause", json!({"suspend": true})).await?;
    workspace.status("pause", "the suspension", |status| status.phase == Some(Phase::Suspended)).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &workspace.namespace);
    let embed = ListParams::default().labels("embedrun.dev/stage=embed");
    cluster
        .wait_for(&workspace.namespace, "the pods to be gone", LIMIT, async || {
            Ok(pods.list(&embed).await?.items.is_empty().then_some(()))
        })
        .await?;
    workspace.release().await?;
    workspace.patch("pause", json!({"suspend": false})).await?;
    workspace.succeeded("pause").await?;

    // Finished Jobs expire after the time in the spec, and the result stays.
    workspace.patch("pause", json!({"ttlSecondsAfterFinished": 1})).await?;
    cluster
        .wait_for(&workspace.namespace, "the Jobs to expire", LIMIT, async || {
            Ok(jobs(&workspace).await?.is_empty().then_some(()))
        })
        .await?;
    workspace.succeeded("pause").await?;
    Ok(())
}

pub(crate) async fn a_deleted_run_leaves_nothing_behind(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "deleted").await?;
    workspace.write("a.jsonl", &records("a", 3))?;
    workspace.apply(&workspace.manifest("deleted", workspace.held(json!({})))).await?;
    workspace.status("deleted", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    workspace.kubectl(&["delete", "erun", "deleted"]).await?;
    let ours = ListParams::default().labels("embedrun.dev/run=deleted");
    let (jobs, pods, configs) = (
        Api::<Job>::namespaced(cluster.client(), &workspace.namespace),
        Api::<Pod>::namespaced(cluster.client(), &workspace.namespace),
        Api::<ConfigMap>::namespaced(cluster.client(), &workspace.namespace),
    );
    cluster
        .wait_for(&workspace.namespace, "the children to be gone", LIMIT, async || {
            let left = jobs.list(&ours).await?.items.len()
                + pods.list(&ours).await?.items.len()
                + configs.list(&ours).await?.items.len();
            Ok((left == 0).then_some(()))
        })
        .await?;
    ensure!(fs::read_dir(workspace.vectors.join("runs"))?.count() == 1, "the output is retained");
    Ok(())
}
