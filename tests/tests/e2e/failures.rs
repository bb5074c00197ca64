//! Runs that fail: each has a reason that names the cause, and keeps its finished work.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};
use crds::v1alpha1::{ConditionType, EmbeddingRunStatus, Phase};
use harness::{Cluster, PodSecurity};
use serde_json::{Value, json};

use crate::setup::{MODEL, Workspace, condition, models, records};

pub(crate) async fn a_bad_shard_is_named_and_the_good_ones_are_kept(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "badshard").await?;
    for name in ["a", "b", "c"] {
        workspace.write(&format!("{name}.jsonl"), &records(name, 10))?;
    }
    let change = workspace.held(json!({"execution": {"parallelism": 3, "maxFailedIndexes": 1}}));
    let manifest = workspace.manifest("badshard", change);
    workspace.apply(&manifest).await?;
    workspace.status("badshard", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    // After the plan, one file changes.
    workspace.write("b.jsonl", &records("b", 10).replace("Note 3", "Note three"))?;
    workspace.release().await?;

    let status = workspace.ended("badshard").await?;
    let failed = condition(&status, ConditionType::Failed)?;
    ensure!((failed.status.as_str(), failed.reason.as_str()) == ("True", "SourceChanged"), "{failed:?}");
    ensure!(failed.message.contains("shard 1"), "{}", failed.message);
    ensure!(condition(&status, ConditionType::Stalled)?.status == "True");
    let revision = status.revision.clone().context("a revision")?;
    let committed = |shard: usize| {
        workspace.vectors.join(format!("runs/{revision}/chunks/shard-0000{shard}/_COMMITTED.json")).is_file()
    };
    ensure!((0..3).map(committed).eq([true, false, true]), "the good shards are kept");
    let events = workspace.kubectl(&["get", "events", "--field-selector", "reason=SourceChanged"]).await?;
    ensure!(events.contains("shard 1"), "{events}");

    // With the file restored, the same revision resumes where it stopped.
    let marker = workspace.vectors.join(format!("runs/{revision}/chunks/shard-00000/_COMMITTED.json"));
    let before = fs::read(&marker)?;
    workspace.write("b.jsonl", &records("b", 10))?;
    workspace.kubectl(&["delete", "erun", "badshard"]).await?;
    workspace.apply(&manifest).await?;
    let status = workspace.succeeded("badshard").await?;
    ensure!(status.revision.as_deref() == Some(&*revision), "{:?}", status.revision);
    ensure!((0..3).all(committed) && fs::read(&marker)? == before, "a shard was computed twice");
    Ok(())
}

/// A run that fails: its name, its change of the manifest, the reason, and words of the message.
struct Bad {
    name: &'static str,
    change: Value,
    reason: &'static str,
    words: &'static [&'static str],
}

pub(crate) async fn bad_input_fails_with_its_reason(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "bad").await?;
    workspace.write("good/a.jsonl", &records("a", 3))?;
    workspace.write("nojson/x_chunks.json", "[{\"text\": \"a\"},\n {oops}]")?;
    workspace.write("notext/x.jsonl", "{\"text\": \"fine\"}\n{\"body\": \"no text\"}\n")?;
    workspace.write("twice/x.jsonl", "{\"id\": \"same\", \"text\": \"a\"}\n{\"id\": \"same\", \"text\": \"b\"}\n")?;
    workspace.write("empty/readme.pdf", "%PDF")?;
    let broken = workspace.folder("broken-models");
    for name in ["noweights", "pickle", "shape"] {
        copy_model(&broken.join(name), name)?;
    }
    workspace.read_only_volume("broken", &broken).await?;
    let closed = workspace.folder("closed");
    fs::create_dir_all(&closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555))?;
    workspace.read_only_volume("closed", &closed).await?;

    let source = |path: &str| json!({"collections": [{"name": "chunks", "source": {"pvc": {"claimName": "chunks", "path": path}}}]});
    let model = |name: &str| {
        let mut change = source("good");
        change["models"] = json!({"dense": [{"name": "minilm", "source": format!("pvc://broken/{name}")}]});
        change
    };
    let mut output = source("good");
    output["output"] = json!({"pvc": {"claimName": "closed"}});
    let mut device = source("good");
    device["gpu"] = json!({"required": true});
    let bad = |name, change, reason, words| Bad { name, change, reason, words };
    let cases = [
        bad("nojson", source("nojson"), "InvalidFile", &["x_chunks.json", "line 2"]),
        bad("notext", source("notext"), "InvalidRecord", &["x.jsonl", "line 2", "\"text\""]),
        bad("twice", source("twice"), "DuplicateId", &["x.jsonl", "same"]),
        bad("empty", source("empty"), "EmptyCollection", &["chunks"]),
        bad("nopath", source("nowhere"), "SourceNotFound", &["pvc://chunks/nowhere"]),
        bad("noweights", model("noweights"), "InvalidModel", &["minilm", "safetensors"]),
        bad("pickle", model("pickle"), "InvalidModel", &["pytorch_model.bin", "pickle"]),
        bad("shape", model("shape"), "InvalidModel", &["minilm", "384", "_embeddings.weight", "config.json"]),
        bad("nomodel", model("nowhere"), "ModelNotFound", &["minilm", "nowhere"]),
        bad("closed", output, "OutputNotWritable", &["pvc://closed"]),
        bad("nogpu", device, "DeviceUnavailable", &["spec.gpu.required"]),
    ];
    for case in &cases {
        workspace.apply(&workspace.manifest(case.name, case.change.clone())).await?;
    }
    for case in &cases {
        let status = workspace.ended(case.name).await?;
        let failed = condition(&status, ConditionType::Failed)?;
        ensure!(failed.status == "True" && failed.reason == case.reason, "{}: {failed:?}", case.name);
        for word in case.words {
            ensure!(failed.message.contains(word), "{}: no {word:?} in {:?}", case.name, failed.message);
        }
    }
    Ok(())
}

/// A copy of the model with one defect.
fn copy_model(folder: &std::path::Path, wrong: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(models()?.join(MODEL))? {
        let entry = entry?;
        let target = folder.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target)?;
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                fs::copy(inner.path(), target.join(inner.file_name()))?;
            }
        } else if entry.file_name() != "model.safetensors" || wrong == "shape" {
            fs::copy(entry.path(), target)?;
        }
    }
    match wrong {
        "pickle" => fs::write(folder.join("pytorch_model.bin"), b"\x80\x02}q\x00.")?,
        "shape" => {
            let path = folder.join("config.json");
            let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
            // A multiple of the 12 heads that differs from the weights.
            config["hidden_size"] = json!(408);
            fs::write(&path, config.to_string())?;
        }
        _ => {}
    }
    Ok(())
}

pub(crate) async fn a_missing_claim_holds_the_run_until_it_exists(cluster: &Cluster) -> Result<()> {
    let workspace = Workspace::make(cluster, "claim").await?;
    let later = workspace.folder("later");
    fs::create_dir_all(&later)?;
    fs::write(later.join("a.jsonl"), records("a", 3))?;
    let source = json!({"collections": [{"name": "chunks", "source": {"pvc": {"claimName": "later"}}}]});
    workspace.apply(&workspace.manifest("claim", source)).await?;
    let waits = |status: &EmbeddingRunStatus| {
        condition(status, ConditionType::Stalled).is_ok_and(|stalled| stalled.reason == "VolumeNotFound")
    };
    let status = workspace.status("claim", "the missing claim to be reported", waits).await?;
    let stalled = condition(&status, ConditionType::Stalled)?;
    for word in ["spec.collections[0].source.pvc", "\"later\""] {
        ensure!(stalled.message.contains(word), "{}", stalled.message);
    }
    workspace.read_only_volume("later", &later).await?;
    workspace.succeeded("claim").await?;
    Ok(())
}

pub(crate) async fn pods_that_the_namespace_rejects_are_reported(cluster: &Cluster) -> Result<()> {
    let on_the_node = |workspace: &Workspace<'_>, name: &str| {
        let mut manifest = workspace.manifest(name, json!({}));
        manifest["spec"]["collections"][0]["source"] = json!({"hostPath": {"path": workspace.chunks}});
        manifest["spec"]["output"] = json!({"hostPath": {"path": workspace.vectors}});
        manifest
    };
    let workspace = Workspace::make(cluster, "refused").await?;
    workspace.apply(&on_the_node(&workspace, "refused")).await?;
    let is_reported = |status: &EmbeddingRunStatus| {
        condition(status, ConditionType::Ready)
            .is_ok_and(|ready| ready.reason == "Refused" && ready.message.contains("hostPath"))
    };
    workspace.status("refused", "the rejection to be reported", is_reported).await?;

    // The same manifest runs where hostPath is allowed.
    let open = Workspace::make_under(cluster, "allowed", PodSecurity::Privileged).await?;
    open.write("a.jsonl", &records("a", 2))?;
    open.apply(&on_the_node(&open, "allowed")).await?;
    let status = open.succeeded("allowed").await?;
    let uri = status.summary.context("a summary")?.uri;
    ensure!(uri.starts_with(&format!("file://{}/runs/", open.vectors.display())), "{uri}");
    Ok(())
}
