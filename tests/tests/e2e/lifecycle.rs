//! What happens around a run: applied again, changed, paused, deleted, its operator restarted.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use crds::v1alpha1::{ConditionType, Phase};
use harness::Cluster;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ConfigMap, Pod},
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use tokio::time::sleep;

use crate::setup::{LIMIT, Place, condition, records, restart_operator};

/// The Jobs of the namespace: name and unique id.
async fn jobs(place: &Place<'_>) -> Result<Vec<(String, Option<String>)>> {
    let jobs: Api<Job> = Api::namespaced(place.cluster.client(), &place.namespace);
    Ok(jobs.list(&ListParams::default()).await?.iter().map(|job| (job.name_any(), job.uid())).collect())
}

pub(crate) async fn a_second_apply_does_nothing(cluster: &Cluster) -> Result<()> {
    let place = Place::make(cluster, "twice").await?;
    place.write("a.jsonl", &records("a", 4))?;
    let manifest = place.manifest("twice", json!({}));
    place.apply(&manifest).await?;
    place.succeeded("twice").await?;
    // The result is recorded before the last look at the Jobs.
    sleep(Duration::from_secs(3)).await;
    let before = (place.runs().get("twice").await?, jobs(&place).await?);
    place.apply(&manifest).await?;
    sleep(Duration::from_secs(3)).await;
    let after = (place.runs().get("twice").await?, jobs(&place).await?);
    ensure!(before.0.resource_version() == after.0.resource_version() && before.1 == after.1, "{before:?}\n{after:?}");

    // Deleting the Jobs runs nothing again.
    place.kubectl(&["delete", "jobs", "--all"]).await?;
    sleep(Duration::from_secs(3)).await;
    ensure!(jobs(&place).await?.is_empty());
    ensure!(place.succeeded("twice").await?.phase == Some(Phase::Succeeded));

    // A new object finds the revision complete in the store.
    place.kubectl(&["delete", "erun", "twice"]).await?;
    place.apply(&manifest).await?;
    let status = place.succeeded("twice").await?;
    ensure!(condition(&status, ConditionType::Complete)?.reason == "AlreadyUpToDate");
    ensure!(status.collections[0].chunks.total == 4, "{:?}", status.collections);
    let names: Vec<String> = jobs(&place).await?.into_iter().map(|(name, _)| name).collect();
    ensure!(names.len() == 1 && names[0].ends_with("-plan"), "{names:?}");
    Ok(())
}

pub(crate) async fn a_changed_manifest_is_a_new_revision(cluster: &Cluster) -> Result<()> {
    let place = Place::make(cluster, "changed").await?;
    place.write("a.jsonl", &records("a", 3))?;
    // The first revision never gets a node; the second does not wait for it.
    place.apply(&place.manifest("changed", json!({"gpu": {"nodeSelector": {"never": "there"}}}))).await?;
    let first = place.status("changed", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    place.apply(&place.manifest("changed", json!({"gpu": {"nodeSelector": null}, "sourceRevision": "2"}))).await?;
    let second = place.succeeded("changed").await?;
    ensure!(first.revision != second.revision);
    let history: Vec<_> =
        second.history.iter().map(|entry| (Some(entry.revision.clone()), entry.reason.as_str())).collect();
    ensure!(history == [(second.revision.clone(), "Succeeded"), (first.revision.clone(), "Replaced")], "{history:?}");
    let current = fs::read_to_string(place.vectors.join("current/chunks"))?;
    ensure!(
        Some(current.trim()) == second.revision.as_deref()
            || current.contains(second.revision.as_deref().unwrap_or("-"))
    );
    Ok(())
}

pub(crate) async fn a_restarted_operator_loses_nothing(cluster: &Cluster) -> Result<()> {
    let place = Place::make(cluster, "restart").await?;
    place.write("a.jsonl", &records("a", 25))?;
    place.apply(&place.manifest("restart", place.held(json!({})))).await?;
    place.status("restart", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    let before = jobs(&place).await?;

    restart_operator(cluster).await?;
    // The work goes on while nobody watches.
    place.release().await?;

    let status = place.succeeded("restart").await?;
    ensure!(status.progress.is_some_and(|progress| progress.shards_done == 3));
    let after = jobs(&place).await?;
    ensure!(before.iter().all(|job| after.contains(job)), "a Job was made again: {before:?} {after:?}");
    Ok(())
}

pub(crate) async fn a_suspended_run_goes_on_and_its_jobs_expire(cluster: &Cluster) -> Result<()> {
    let place = Place::make(cluster, "pause").await?;
    place.write("a.jsonl", &records("a", 3))?;
    place.apply(&place.manifest("pause", place.held(json!({})))).await?;
    place.status("pause", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    place.patch("pause", json!({"suspend": true})).await?;
    place.status("pause", "the suspension", |status| status.phase == Some(Phase::Suspended)).await?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &place.namespace);
    let embed = ListParams::default().labels("embedrun.dev/stage=embed");
    cluster
        .wait_for(&place.namespace, "the pods to be gone", LIMIT, async || {
            Ok(pods.list(&embed).await?.items.is_empty().then_some(()))
        })
        .await?;
    place.release().await?;
    place.patch("pause", json!({"suspend": false})).await?;
    place.succeeded("pause").await?;

    // Finished Jobs expire when the run says so, and the result does not go with them.
    place.patch("pause", json!({"ttlSecondsAfterFinished": 1})).await?;
    cluster
        .wait_for(&place.namespace, "the Jobs to expire", LIMIT, async || {
            Ok(jobs(&place).await?.is_empty().then_some(()))
        })
        .await?;
    place.succeeded("pause").await?;
    Ok(())
}

pub(crate) async fn a_deleted_run_leaves_nothing_behind(cluster: &Cluster) -> Result<()> {
    let place = Place::make(cluster, "deleted").await?;
    place.write("a.jsonl", &records("a", 3))?;
    place.apply(&place.manifest("deleted", place.held(json!({})))).await?;
    place.status("deleted", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    place.kubectl(&["delete", "erun", "deleted"]).await?;
    let ours = ListParams::default().labels("embedrun.dev/run=deleted");
    let (jobs, pods, configs) = (
        Api::<Job>::namespaced(cluster.client(), &place.namespace),
        Api::<Pod>::namespaced(cluster.client(), &place.namespace),
        Api::<ConfigMap>::namespaced(cluster.client(), &place.namespace),
    );
    cluster
        .wait_for(&place.namespace, "the children to be gone", LIMIT, async || {
            let left = jobs.list(&ours).await?.items.len()
                + pods.list(&ours).await?.items.len()
                + configs.list(&ours).await?.items.len();
            Ok((left == 0).then_some(()))
        })
        .await?;
    ensure!(fs::read_dir(place.vectors.join("runs"))?.count() == 1, "the output is retained");
    Ok(())
}
