//! Runs that fail, each with a reason that names the cause, and nothing lost.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Context, Result, ensure};
use crds::v1alpha1::{ConditionType, EmbeddingRunStatus, Phase};
use harness::{Cluster, PodSecurity};
use serde_json::{Value, json};

use crate::setup::{MODEL, Place, condition, models, records};

pub(crate) async fn a_bad_shard_is_named_and_the_good_ones_are_kept(cluster: &Cluster) -> Result<()> {
    let place = Place::make(cluster, "badshard").await?;
    for name in ["a", "b", "c"] {
        place.write(&format!("{name}.jsonl"), &records(name, 10))?;
    }
    let change = place.held(json!({"execution": {"parallelism": 3, "maxFailedIndexes": 1}}));
    let manifest = place.manifest("badshard", change);
    place.apply(&manifest).await?;
    place.status("badshard", "the embed Job", |status| status.phase == Some(Phase::Embedding)).await?;
    // The plan was right; then one file changes under the run.
    place.write("b.jsonl", &records("b", 10).replace("Note 3", "Note three"))?;
    place.release().await?;

    let status = place.ended("badshard").await?;
    let failed = condition(&status, ConditionType::Failed)?;
    ensure!((failed.status.as_str(), failed.reason.as_str()) == ("True", "SourceChanged"), "{failed:?}");
    ensure!(failed.message.contains("shard 1"), "{}", failed.message);
    ensure!(condition(&status, ConditionType::Stalled)?.status == "True");
    let revision = status.revision.clone().context("a revision")?;
    let committed = |shard: usize| {
        place.vectors.join(format!("runs/{revision}/chunks/shard-0000{shard}/_COMMITTED.json")).is_file()
    };
    ensure!((0..3).map(committed).eq([true, false, true]), "the good shards are kept");
    let events = place.kubectl(&["get", "events", "--field-selector", "reason=SourceChanged"]).await?;
    ensure!(events.contains("shard 1"), "{events}");

    // With the file as it was, the same revision goes on where it stopped.
    let marker = place.vectors.join(format!("runs/{revision}/chunks/shard-00000/_COMMITTED.json"));
    let before = fs::read(&marker)?;
    place.write("b.jsonl", &records("b", 10))?;
    place.kubectl(&["delete", "erun", "badshard"]).await?;
    place.apply(&manifest).await?;
    let status = place.succeeded("badshard").await?;
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
    let place = Place::make(cluster, "bad").await?;
    place.write("good/a.jsonl", &records("a", 3))?;
    place.write("nojson/x_chunks.json", "[{\"text\": \"a\"},\n {oops}]")?;
    place.write("notext/x.jsonl", "{\"text\": \"fine\"}\n{\"body\": \"no text\"}\n")?;
    place.write("twice/x.jsonl", "{\"id\": \"same\", \"text\": \"a\"}\n{\"id\": \"same\", \"text\": \"b\"}\n")?;
    place.write("empty/readme.pdf", "%PDF")?;
    let broken = place.folder("broken-models");
    for name in ["noweights", "pickle", "shape"] {
        copy_model(&broken.join(name), name)?;
    }
    place.read_only_volume("broken", &broken).await?;
    let closed = place.folder("closed");
    fs::create_dir_all(&closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555))?;
    place.read_only_volume("closed", &closed).await?;

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
        place.apply(&place.manifest(case.name, case.change.clone())).await?;
    }
    for case in &cases {
        let status = place.ended(case.name).await?;
        let failed = condition(&status, ConditionType::Failed)?;
        ensure!(failed.status == "True" && failed.reason == case.reason, "{}: {failed:?}", case.name);
        for word in case.words {
            ensure!(failed.message.contains(word), "{}: no {word:?} in {:?}", case.name, failed.message);
        }
    }
    Ok(())
}

/// A copy of the model with one thing wrong.
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
            // A multiple of the 12 heads, and not what the weights have.
            config["hidden_size"] = json!(408);
            fs::write(&path, config.to_string())?;
        }
        _ => {}
    }
    Ok(())
}

pub(crate) async fn a_missing_claim_holds_the_run_until_it_exists(cluster: &Cluster) -> Result<()> {
    let place = Place::make(cluster, "claim").await?;
    let later = place.folder("later");
    fs::create_dir_all(&later)?;
    fs::write(later.join("a.jsonl"), records("a", 3))?;
    let source = json!({"collections": [{"name": "chunks", "source": {"pvc": {"claimName": "later"}}}]});
    place.apply(&place.manifest("claim", source)).await?;
    let waits = |status: &EmbeddingRunStatus| {
        condition(status, ConditionType::Stalled).is_ok_and(|stalled| stalled.reason == "VolumeNotFound")
    };
    let status = place.status("claim", "the missing claim to be told", waits).await?;
    let stalled = condition(&status, ConditionType::Stalled)?;
    for word in ["spec.collections[0].source.pvc", "\"later\""] {
        ensure!(stalled.message.contains(word), "{}", stalled.message);
    }
    place.read_only_volume("later", &later).await?;
    place.succeeded("claim").await?;
    Ok(())
}

pub(crate) async fn pods_that_the_namespace_refuses_are_told(cluster: &Cluster) -> Result<()> {
    let on_the_node = |place: &Place<'_>, name: &str| {
        let mut manifest = place.manifest(name, json!({}));
        manifest["spec"]["collections"][0]["source"] = json!({"hostPath": {"path": place.chunks}});
        manifest["spec"]["output"] = json!({"hostPath": {"path": place.vectors}});
        manifest
    };
    let place = Place::make(cluster, "refused").await?;
    place.apply(&on_the_node(&place, "refused")).await?;
    let told = |status: &EmbeddingRunStatus| {
        condition(status, ConditionType::Ready)
            .is_ok_and(|ready| ready.reason == "Refused" && ready.message.contains("hostPath"))
    };
    place.status("refused", "the refusal to be told", told).await?;

    // Where hostPath is allowed the same manifest runs.
    let open = Place::make_under(cluster, "allowed", PodSecurity::Privileged).await?;
    open.write("a.jsonl", &records("a", 2))?;
    open.apply(&on_the_node(&open, "allowed")).await?;
    let status = open.succeeded("allowed").await?;
    let uri = status.summary.context("a summary")?.uri;
    ensure!(uri.starts_with(&format!("file://{}/runs/", open.vectors.display())), "{uri}");
    Ok(())
}
