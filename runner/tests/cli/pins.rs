//! A model is its whole folder: opened in the plan, pinned by its files, and named where it differs later.

use std::{fs, path::Path};

use crds::contract::{FailureReason, Stage};
use sha2::{Digest, Sha256};

use crate::{
    common::write_tiny_bert,
    stages::{self, Spec, run, summary},
    world::{World, json},
};

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a file");
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(file, text.replace(from, to)).expect("a file");
}

fn planned() -> World {
    let world = World::new();
    world.ten_chunks();
    world.plan(5).succeeded();
    world
}

#[test]
fn weights_that_change_between_shards_fail_at_load() {
    let world = planned();
    world.embed(0).succeeded();
    write_tiny_bert(&world.path("model"), 2);
    let failure = world.embed(1).failed(2, FailureReason::ModelChanged);
    assert_eq!((failure.stage, failure.shard), (Stage::Embed, Some(1)));
    for named in ["dense model tiny", "model.safetensors", "spec.rerunToken", "models/dense-tiny.json"] {
        assert!(failure.message.contains(named), "{named}: {}", failure.message);
    }
    // The model comes back, and the run goes on.
    write_tiny_bert(&world.path("model"), 1);
    world.embed(1).succeeded();
    world.finalize().succeeded();
}

#[test]
fn settings_that_change_after_the_plan_fail_the_first_shard() {
    for (file, from, to) in [
        ("1_Pooling/config.json", "true", "true "),
        ("tokenizer.json", "\"type\"", " \"type\""),
        ("config.json", "\"hidden_size\"", " \"hidden_size\""),
    ] {
        let world = planned();
        replace(&world.path("model").join(file), from, to);
        let message = world.embed(0).failed(2, FailureReason::ModelChanged).message;
        assert!(message.contains(file) && message.contains("since the plan"), "{message}");
        // Planned again, the change is found before anything is embedded.
        let message = world.plan(5).failed(2, FailureReason::ModelChanged).message;
        assert!(message.contains(file), "{message}");
    }
}

#[test]
fn every_model_has_one_digest_over_its_files() {
    let (world, spec) = stages::world();
    stages::manifest(&world, &spec);
    run(&world).succeeded();
    let summary = summary(&world);
    let found = [
        ("dense", "tiny", &summary["dense_run"]["passes"][0]),
        ("dense", "other", &summary["dense_run"]["passes"][1]),
        ("sparse", "splade", &summary["sparse_run"]["passes"][0]),
        ("reranker", "ce", &summary["rerank_run"]["model"]),
    ];
    let folders = ["model", "other", "sparse", "reranker"];
    for ((kind, name, record), folder) in found.into_iter().zip(folders) {
        let pinned = json(&world.revision().join(format!("models/{kind}-{name}.json")));
        assert_eq!(record["model_sha256"], pinned["sha256"], "{kind} {name}");
        let files = pinned["files"].as_object().expect("files");
        let mut lines = String::new();
        for (path, sha256) in files {
            let bytes = fs::read(world.path(folder).join(path)).expect("a file of the model");
            assert_eq!(sha256.as_str(), Some(&*hex::encode(Sha256::digest(bytes))), "{path}");
            lines.extend([sha256.as_str().expect("a digest"), "  ", path, "\n"]);
        }
        assert_eq!(pinned["sha256"].as_str(), Some(&*hex::encode(Sha256::digest(lines))));
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            assert!(files.contains_key(file), "{kind} {name} has read {file}");
        }
    }
    let of_dense = json(&world.revision().join("models/dense-tiny.json"));
    assert!(
        of_dense["files"].get("1_Pooling/config.json").is_some() && of_dense["files"].get("modules.json").is_some()
    );
}

#[test]
fn a_reranker_that_cannot_be_used_fails_the_plan() {
    /// A folder, what is done to it, the reason, and the words of the message.
    type Case<'a> = (&'a str, &'a dyn Fn(&Path), FailureReason, &'a [&'a str]);
    let cases: [Case; 4] = [
        ("missing", &|dir| fs::remove_dir_all(dir).expect("removed"), FailureReason::ModelNotFound, &["reranker"]),
        (
            "without a tokenizer",
            &|dir| fs::remove_file(dir.join("tokenizer.json")).expect("removed"),
            FailureReason::InvalidModel,
            &["tokenizer.json"],
        ),
        (
            "of another kind",
            &|dir| replace(&dir.join("config.json"), "\"bert\"", "\"mpnet\""),
            FailureReason::InvalidModel,
            &["config.json", "mpnet"],
        ),
        (
            "with two labels",
            &|dir| replace(&dir.join("config.json"), "\"0\": \"LABEL_0\"", "\"0\": \"LABEL_0\", \"1\": \"LABEL_1\""),
            FailureReason::InvalidModel,
            &["config.json", "2 labels"],
        ),
    ];
    for (what, spoil, reason, named) in cases {
        let (world, spec) = stages::world();
        stages::manifest(&world, &spec);
        spoil(&world.path("reranker"));
        let failure = run(&world).failed(2, reason);
        assert_eq!(failure.stage, Stage::Plan, "{what}: {}", failure.message);
        for part in named {
            assert!(failure.message.contains(part), "{what}, {part}: {}", failure.message);
        }
        assert!(world.files().keys().all(|file| !file.ends_with("_COMMITTED.json")), "{what}");
    }
}

#[test]
fn a_reranker_that_changes_after_the_plan_fails_finalize() {
    let (world, spec) = stages::world();
    stages::manifest(&world, &spec);
    let config = stages::config(&world);
    fs::write(world.path("run.json"), config.to_json()).expect("a configuration");
    world.embedrun(&["plan", "--config", "run.json"]).succeeded();
    world.embed(0).succeeded();
    replace(&world.path("reranker/tokenizer_config.json"), "{", "{ ");
    let message = world.finalize().failed(2, FailureReason::ModelChanged).message;
    assert!(message.contains("reranker model ce") && message.contains("tokenizer_config.json"), "{message}");
}

#[test]
fn a_search_refuses_a_model_whose_settings_have_changed() {
    let world = World::new();
    world.ten_chunks();
    world.run(&[]).succeeded();
    world.embedrun(&["search", "-f", "run.yaml", "first"]).succeeded();
    replace(&world.path("model/1_Pooling/config.json"), "mean", "max");
    let ended = world.embedrun(&["search", "-f", "run.yaml", "first"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("model sha256"), "{}", ended.stderr);
}

#[test]
fn a_run_without_its_optional_models_is_planned() {
    let (world, spec) = stages::world();
    let optional = spec.reranker.replace("/reranker\"}", "/nowhere\", optional: true}");
    stages::manifest(&world, &Spec { reranker: optional, ..spec });
    run(&world).succeeded();
    assert_eq!(summary(&world)["rerank_run"]["fallback"]["reason"], "ModelUnavailable");
}
