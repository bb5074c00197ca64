//! Committed shards that cannot be used: the operator embeds them again, and only them.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use harness::Cluster;
use serde_json::{Value, json};

use crate::setup::{MODEL, Workspace, models, records};

/// More than fit between the commit of the first shard and the copy of the model.
const SHARDS: usize = 6;

pub(crate) async fn a_shard_that_lacks_an_optional_model_is_embedded_again(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "leftout").await?;
    for shard in 0..SHARDS {
        workspace.write(&format!("{shard}.jsonl"), &records(&format!("r{shard}"), 10))?;
    }
    let late = workspace.folder("late-models");
    fs::create_dir_all(&late)?;
    workspace.read_only_volume("late", &late).await?;
    let change = json!({
        "models": {"dense": [
            {"name": "minilm", "source": format!("pvc://models/{MODEL}")},
            {"name": "late", "source": "pvc://late/model", "optional": true}
        ]},
        "execution": {"parallelism": 1}
    });
    workspace.apply(&workspace.manifest("leftout", change)).await?;
    let status = workspace.status("leftout", "a revision", |status| status.revision.is_some()).await?;
    let revision = workspace.vectors.join("runs").join(status.revision.context("a revision")?);
    let file = |shard: usize, name: &str| revision.join(format!("chunks/shard-{shard:05}/{name}.json"));
    cluster
        .wait_for(&workspace.namespace, "the first commit", Duration::from_mins(2), async || {
            Ok(file(0, "_COMMITTED").exists().then_some(()))
        })
        .await?;
    let copied = workspace.folder("late-models/copy");
    copy(&models()?.join(MODEL), &copied)?;
    fs::rename(copied, late.join("model"))?;

    let status = workspace.succeeded("leftout").await?;
    ensure!(status.dense.is_none(), "the model is missing: {:?}", status.dense);
    let read = |path: std::path::PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    ensure!(read(file(0, "_SUPERSEDED"))?["cause"] == "ModelLeftOut");
    let passes = |marker: &Value| marker["dense"].as_array().map_or(0, Vec::len);
    ensure!(passes(&read(file(0, "_COMMITTED"))?) == 1 && passes(&read(file(0, "_COMMITTED.2"))?) == 2);
    ensure!(passes(&read(file(SHARDS - 1, "_COMMITTED"))?) == 2);
    ensure!(!file(SHARDS - 1, "_SUPERSEDED").exists(), "a shard was computed twice");

    // A complete revision that lost a file is completed again.
    let lost = workspace.vectors.join(read(file(SHARDS - 1, "_COMMITTED"))?["file"].as_str().context("a file")?);
    fs::remove_file(&lost)?;
    workspace.kubectl(&["delete", "erun", "leftout"]).await?;
    let change = json!({
        "models": {"dense": [
            {"name": "minilm", "source": format!("pvc://models/{MODEL}")},
            {"name": "late", "source": "pvc://late/model", "optional": true}
        ]}
    });
    workspace.apply(&workspace.manifest("leftout", change)).await?;
    workspace.succeeded("leftout").await?;
    ensure!(read(file(SHARDS - 1, "_SUPERSEDED"))?["cause"] == "FileDamaged");
    let again = workspace.vectors.join(read(file(SHARDS - 1, "_COMMITTED.2"))?["file"].as_str().context("a file")?);
    ensure!(again.is_file(), "{} is missing", again.display());
    Ok(())
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
