//! What is committed: files named by their content, looked at before readers are pointed to them, embedded again when
//! they are gone or when an optional model was left out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crds::contract::{FailureReason, PlanResult, StageOutcome};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    stages::{Spec, config, finalized, manifest, run, run_with, summary, world},
    world::{Ended, World, json},
};

fn sha256(file: &Path) -> String {
    hex::encode(Sha256::digest(fs::read(file).expect("a file")))
}

/// The Parquet files of the output, sorted.
fn parquet(world: &World) -> Vec<PathBuf> {
    let files = world.files().into_keys().filter(|file| file.ends_with(".parquet"));
    files.map(|file| world.path("out").join(file)).collect()
}

/// The marker of a generation of a shard.
fn marker(world: &World, shard: u32, generation: &str) -> PathBuf {
    world.revision().join(format!("docs/shard-{shard:05}/_COMMITTED{generation}.json"))
}

/// The committed rows of a shard.
fn data(world: &World, shard: u32) -> PathBuf {
    world.path("out").join(json(&marker(world, shard, ""))["file"].as_str().expect("a path"))
}

fn already_committed(ended: Ended) -> bool {
    match ended.succeeded().result.map(|result| result.outcome) {
        Some(StageOutcome::Embedded(shard)) => shard.already_committed,
        other => panic!("not embedded: {other:?}"),
    }
}

fn remove_all(files: &[PathBuf]) {
    for file in files {
        fs::remove_file(file).expect("removed");
    }
}

/// Flips a byte in the middle of a file.
fn flip(file: &Path) {
    let mut bytes = fs::read(file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).expect("written");
}

#[test]
fn files_are_named_by_their_digest_and_two_runs_write_the_same() {
    let (world, spec) = world();
    manifest(&world, &spec);
    finalized(run_with(&world, &[], &["--shard-size", "4"]));
    let files = parquet(&world);
    assert_eq!(files.len(), 6, "rows and candidates of three shards");
    for file in &files {
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(name.split('.').next(), Some(&*sha256(file)), "{name}");
    }
    fs::remove_dir_all(world.path("out")).expect("removed");
    finalized(run_with(&world, &[], &["--shard-size", "4"]));
    assert_eq!(parquet(&world), files);
}

#[test]
fn a_committed_file_that_is_gone_short_or_another_is_named_and_embedded_again() {
    let cut: fn(&Path) = |file| fs::write(file, "PAR1").expect("cut");
    let remove: fn(&Path) = |file| fs::remove_file(file).expect("removed");
    for (damage, words, more) in [
        (remove, "is missing", &[] as &[&str]),
        (cut, "has 4 bytes and was committed with", &[]),
        (flip, "was committed with other bytes", &["--verify-digests"]),
    ] {
        let world = World::new();
        world.ten_chunks();
        world.plan(5).succeeded();
        world.embed(0).succeeded();
        world.embed(1).succeeded();
        let (file, kept) = (data(&world, 1), fs::read(marker(&world, 0, "")).expect("a marker"));
        let digest = sha256(&file);
        damage(&file);
        let arguments = [&["finalize", "--config", "run.json"], more].concat();
        let message = world.embedrun(&arguments).failed(75, FailureReason::ShardsSuperseded).message;
        assert!(message.contains("shard 1: ") && message.contains(&digest) && message.contains(words), "{message}");
        assert!(!world.path("out/current/docs").exists(), "readers are pointed to a damaged revision");
        // Until it is embedded again, it stays named.
        let message = world.embedrun(&arguments).failed(75, FailureReason::ShardsSuperseded).message;
        assert!(message.contains("shard 1 was superseded") && message.contains(words), "{message}");
        assert!(already_committed(world.embed(0)));
        assert!(!already_committed(world.embed(1)));
        assert_eq!(sha256(&file), digest);
        world.finalize().succeeded();
        assert_eq!(world.rows("docs").len(), 10);
        assert_eq!(fs::read(marker(&world, 0, "")).expect("a marker"), kept);
        assert_eq!(json(&marker(&world, 1, ".2"))["generation"], 2);
    }
}

#[test]
fn candidates_that_are_gone_are_embedded_again_too() {
    let (world, spec) = world();
    manifest(&world, &spec);
    fs::write(world.path("run.json"), config(&world).to_json()).expect("written");
    world.embedrun(&["plan", "--config", "run.json"]).succeeded();
    world.embed(0).succeeded();
    let candidates = parquet(&world).into_iter().find(|file| file.to_string_lossy().contains("candidates"));
    fs::remove_file(candidates.expect("candidates")).expect("removed");
    let message = world.finalize().failed(75, FailureReason::ShardsSuperseded).message;
    assert!(message.contains("candidates.parquet is missing"), "{message}");
    assert!(!already_committed(world.embed(0)));
    world.finalize().succeeded();
}

#[test]
fn a_shard_whose_files_vanish_again_and_again_is_named_in_the_end() {
    let world = World::new();
    world.ten_chunks();
    world.plan(100).succeeded();
    for _ in 0..2 {
        world.embed(0).succeeded();
        remove_all(&parquet(&world));
        world.finalize().failed(75, FailureReason::ShardsSuperseded);
    }
    world.embed(0).succeeded();
    remove_all(&parquet(&world));
    let message = world.finalize().failed(75, FailureReason::StoreUnavailable).message;
    assert!(message.contains("shard 0 was embedded 3 times") && message.contains("check the volume"), "{message}");
}

#[test]
fn a_complete_revision_whose_files_are_gone_is_not_up_to_date() {
    let world = World::new();
    world.ten_chunks();
    let first = world.run(&["--shard-size", "5"]).succeeded();
    let before = world.rows("docs");
    fs::remove_file(data(&world, 1)).expect("removed");
    let plan = world.plan(5).succeeded();
    let Some(StageOutcome::Planned(PlanResult { complete: None, shards: 2, .. })) =
        plan.result.map(|result| result.outcome)
    else {
        panic!("complete without its files");
    };
    world.finalize().failed(75, FailureReason::ShardsSuperseded);
    let again = world.run(&[]).succeeded();
    assert_eq!(world.rows("docs"), before);
    assert_eq!(first.result, again.result);
    // Other bytes of the same size are found on request.
    let (file, digest) = (data(&world, 0), sha256(&data(&world, 0)));
    flip(&file);
    world.run(&[]).succeeded();
    assert_ne!(sha256(&file), digest);
    world.run(&["--verify-digests"]).succeeded();
    assert_eq!(sha256(&file), digest);
}

/// A world whose second model is optional and missing, planned in three shards.
fn world_without_a_model() -> (World, Spec) {
    let (world, spec) = world();
    fs::rename(world.path("other"), world.path("away")).expect("moved");
    let dense = spec.dense.replace("other\"}", "other\", optional: true}");
    let spec = Spec { dense, ..spec };
    manifest(&world, &spec);
    fs::write(world.path("run.json"), config(&world).to_json()).expect("written");
    world.embedrun(&["plan", "--config", "run.json", "--shard-size", "4"]).succeeded();
    (world, spec)
}

fn models(world: &World) -> Vec<Value> {
    let markers = (0..3).map(|shard| {
        let second = marker(world, shard, ".2");
        json(&if second.exists() { second } else { marker(world, shard, "") })
    });
    markers.map(|marker| marker["dense"].as_array().expect("passes").len().into()).collect()
}

#[test]
fn a_model_that_one_shard_lacks_is_tried_again_in_that_shard_only() {
    let (world, _) = world_without_a_model();
    world.embed(0).succeeded();
    fs::rename(world.path("away"), world.path("other")).expect("moved");
    world.embed(1).succeeded();
    let kept = fs::read(marker(&world, 1, "")).expect("a marker");
    // In one process: shard 2 has the model, shard 0 is embedded again.
    let result = finalized(run(&world));
    assert_eq!(result.dense_fallback, None);
    assert_eq!(models(&world), [2, 2, 2]);
    assert_eq!(fs::read(marker(&world, 1, "")).expect("a marker"), kept);
    assert!(!marker(&world, 2, ".2").exists());
    let superseded = json(&world.revision().join("docs/shard-00000/_SUPERSEDED.json"));
    assert_eq!(superseded["cause"], "ModelLeftOut");
    assert!(superseded["message"].as_str().is_some_and(|message| message.contains("model other")), "{superseded}");
}

#[test]
fn a_model_that_fails_twice_in_a_shard_is_named_and_tried_again_on_request() {
    let (world, _) = world_without_a_model();
    world.embed(0).succeeded();
    fs::rename(world.path("away"), world.path("other")).expect("moved");
    world.embed(1).succeeded();
    world.embed(2).succeeded();
    world.finalize().failed(75, FailureReason::ShardsSuperseded);
    fs::rename(world.path("other"), world.path("away")).expect("moved");
    world.embed(0).succeeded();
    let message = world.finalize().failed(2, FailureReason::InvalidModel).message;
    assert!(message.contains("model other was left out of shard 0"), "{message}");
    assert!(message.contains("EMBEDRUN_RETRY_FALLBACKS=true"), "{message}");
    fs::rename(world.path("away"), world.path("other")).expect("moved");
    let kept = fs::read(marker(&world, 1, "")).expect("a marker");
    assert_eq!(finalized(run_with(&world, &[("EMBEDRUN_RETRY_FALLBACKS", "true")], &[])).dense_fallback, None);
    assert_eq!(json(&marker(&world, 0, ".3"))["dense"].as_array().map(Vec::len), Some(2));
    assert_eq!(fs::read(marker(&world, 1, "")).expect("a marker"), kept);
}

#[test]
fn a_complete_revision_without_a_model_gets_it_on_request() {
    let (world, _) = world_without_a_model();
    let degraded = finalized(run(&world));
    assert!(degraded.dense_fallback.is_some());
    fs::rename(world.path("away"), world.path("other")).expect("moved");
    assert_eq!(finalized(run(&world)), degraded, "complete is complete");
    let result = finalized(run_with(&world, &[], &["--retry-fallbacks"]));
    assert_eq!(result.dense_fallback, None);
    assert_eq!(models(&world), [2, 2, 2]);
    assert_eq!(summary(&world)["fusion_run"]["dimensions"], 32);
    // Nothing of the first time is left, and everything of the second is there.
    assert_eq!(parquet(&world).len(), 6);
    assert_eq!(finalized(run(&world)), result);
}

#[test]
fn a_revision_that_release_0_1_0_began_is_finished() {
    let older = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/older/0.1.0");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures");
    let world = World::new();
    let copy = |from: PathBuf, to: &str| {
        let copied = std::process::Command::new("cp").arg("-rT").arg(from).arg(world.path(to)).status();
        assert!(copied.expect("cp").success());
    };
    for name in ["source", "queries", "out"] {
        copy(older.join(name), name);
    }
    for (fixture, name) in [("bert-mean", "tiny"), ("bert-cls", "other"), ("bert-mlm-untied", "sparse")] {
        copy(fixtures.join(fixture), name);
    }
    let root = world.path("").display().to_string();
    let model = |name: &str, more: &str| format!("{{name: {name}, source: \"file://{root}{name}\"{more}}}");
    let spec = Spec {
        dense: format!(
            "[{}, {}, {}]",
            model("tiny", ", weight: 2"),
            model("other", ""),
            model("gone", ", optional: true")
        ),
        sparse: format!("[{{name: splade, source: \"file://{root}sparse\", topK: 64}}]"),
        reranker: String::new(),
        rest: "  rerank: {candidates: 6, topK: 3, queries: {configMap: {name: q, key: q.jsonl}}}\n".into(),
    };
    manifest(&world, &spec);
    // The places are those of this machine, so the revision is set as it was.
    let mut config: Value = serde_json::from_str(&config(&world).to_json()).expect("JSON");
    config["revision"] = "b91591b7d6".into();
    fs::write(world.path("run.json"), config.to_string()).expect("written");
    let before = fs::read(marker(&world, 0, "")).expect("a marker");
    world.embedrun(&["plan", "--config", "run.json"]).succeeded();
    assert!(already_committed(world.embed(0)));
    assert!(!already_committed(world.embed(1)));
    let result = finalized(world.finalize());
    assert_eq!((result.totals.chunks, result.dense_fallback.map(|fallback| fallback.count)), (5, Some(2)));
    assert_eq!(fs::read(marker(&world, 0, "")).expect("a marker"), before);
    assert!(data(&world, 0).is_file(), "the file of the older marker is kept");
    let summary = summary(&world);
    assert_eq!(summary["export_run"]["files"].as_array().map(Vec::len), Some(2));
    assert_eq!(summary["quality"]["judged_queries"], 1);
}

#[test]
fn a_marker_of_a_later_release_is_named_with_what_to_do() {
    let world = World::new();
    world.ten_chunks();
    world.plan(100).succeeded();
    world.embed(0).succeeded();
    let marker = marker(&world, 0, "");
    let text = fs::read_to_string(&marker).expect("a marker").replace("\"version\": 3", "\"version\": 4");
    fs::write(&marker, text).expect("written");
    for ended in [world.embed(0), world.finalize()] {
        let message = ended.failed(2, FailureReason::InvalidConfiguration).message;
        assert!(message.contains("_COMMITTED.json is a commit marker of version 4"), "{message}");
        assert!(message.contains("use the image of that release or a later one"), "{message}");
    }
}
