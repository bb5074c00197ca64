//! The main path: texts become vectors, and the status reports them.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use crds::{
    pointer::Pointer,
    summary::ProcessingSummary,
    v1alpha1::{ConditionType, Phase},
};
use harness::Cluster;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    chart::get,
    setup::{Workspace, condition, operator, records},
};

pub(crate) async fn two_collections_in_three_shards_become_vectors(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "vectors").await?;
    workspace.write("notes/a.jsonl", &records("a", 12))?;
    workspace.write("faq/faq.md", "# Opening hours\n\nWe open at nine.\n\n# Parking\n\nBehind the house.\n")?;
    workspace
        .write("faq/more_chunks.json", r#"{"chunks": [{"id": "x", "text": "Dogs are welcome."}, {"text": " "}]}"#)?;
    let manifest = workspace.manifest(
        "main",
        json!({"collections": [
            {"name": "notes", "source": {"pvc": {"claimName": "chunks", "path": "notes"}}},
            {"name": "faq", "source": {"pvc": {"claimName": "chunks", "path": "faq/"}}}
        ]}),
    );
    workspace.apply(&manifest).await?;
    let status = workspace.succeeded("main").await?;

    let progress = status.progress.clone().context("progress")?;
    ensure!((progress.shards_done, progress.shards_total, progress.chunks_total) == (3, 3, 15), "{progress:?}");
    let totals: Vec<_> = status
        .collections
        .iter()
        .map(|collection| (collection.name.as_str(), collection.chunks.total, collection.chunks.skipped))
        .collect();
    ensure!(totals == [("notes", 12, 0), ("faq", 3, 1)], "{totals:?}");
    ensure!(status.collections[0].dense[0].dimensions == 384, "{:?}", status.collections[0]);
    let degraded = condition(&status, ConditionType::Degraded)?;
    ensure!((degraded.status.as_str(), degraded.reason.as_str()) == ("True", "DeviceFallback"), "{degraded:?}");
    for kind in [ConditionType::Accepted, ConditionType::Complete, ConditionType::Ready, ConditionType::ResultRecorded]
    {
        ensure!(condition(&status, kind)?.status == "True", "{kind}");
    }

    let revision = status.revision.clone().context("a revision")?;
    for collection in &status.collections {
        let path = workspace.vectors.join(format!("runs/{revision}/{}/processing_summary.json", collection.name));
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let recorded = collection.summary.clone().context("a summary")?;
        ensure!(recorded.sha256 == hex::encode(Sha256::digest(&bytes)), "the summary is not the one that was recorded");
        let summary: ProcessingSummary = serde_json::from_slice(&bytes)?;
        ensure!(summary.chunk_count == collection.chunks.embedded, "{}", summary.chunk_count);
        for file in &summary.export_run.files {
            ensure!(workspace.vectors.join(&file.path).is_file(), "{} is missing", file.path);
        }
        let current = Pointer::parse(&fs::read(workspace.vectors.join(format!("current/{}", collection.name)))?)?;
        ensure!(current.revision.as_str() == revision, "{current:?}");
    }

    pods_are_pinned_and_hold_no_credentials(&workspace).await?;
    let table = workspace.kubectl(&["get", "erun", "main", "-o", "wide"]).await?;
    for word in ["Succeeded", "3/3 shards", "Disabled", &revision, "pvc://vectors/runs/"] {
        ensure!(table.contains(word), "no {word} in\n{table}");
    }
    ensure!(status.phase == Some(Phase::Succeeded));

    // Batch pods may end between two scrapes, so the operator counts their work.
    let metrics = get(operator(cluster).await?, "/metrics").await?;
    let tokens = metrics.lines().find_map(|line| line.strip_prefix("rag_tokens_total ")).context("no tokens")?;
    let reported: u64 = status.collections.iter().map(|collection| collection.dense[0].tokens).sum();
    ensure!(tokens.parse::<f64>()? >= reported as f64 && reported > 0, "{tokens} tokens counted, {reported} reported");
    Ok(())
}

async fn pods_are_pinned_and_hold_no_credentials(workspace: &Workspace<'_>) -> Result<()> {
    let jobs: Api<Job> = Api::namespaced(workspace.cluster.client(), &workspace.namespace);
    let embed = jobs
        .list(&ListParams::default().labels("embedrun.dev/stage=embed"))
        .await?
        .items
        .pop()
        .and_then(|job| job.spec)
        .context("an embed Job")?;
    ensure!((embed.parallelism, embed.completions) == (Some(2), Some(3)), "{embed:?}");
    let pods: Api<Pod> = Api::namespaced(workspace.cluster.client(), &workspace.namespace);
    let pods = pods.list(&ListParams::default()).await?.items;
    ensure!(pods.len() == 5, "{} pods", pods.len());
    let mut nodes = BTreeSet::new();
    for pod in pods {
        let name = pod.name_any();
        let spec = pod.spec.context("a spec")?;
        ensure!(spec.automount_service_account_token == Some(false), "{name}");
        let volumes = spec.volumes.unwrap_or_default();
        ensure!(
            volumes.iter().all(|volume| volume.projected.is_none() && volume.secret.is_none()),
            "{name}: {volumes:?}"
        );
        let limits = spec.containers[0].resources.as_ref().and_then(|resources| resources.limits.clone());
        let gpus = limits.and_then(|limits| limits.get("nvidia.com/gpu").cloned());
        ensure!(gpus.is_some() == name.contains("-embed-"), "{name}: {gpus:?}");
        nodes.insert(spec.node_name);
    }
    ensure!(nodes.len() == 1, "{nodes:?}");
    Ok(())
}
