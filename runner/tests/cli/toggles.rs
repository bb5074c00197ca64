//! Toggles from every layer, in the real process.

use std::{fs, process::Command};

use crds::contract::FailureReason;

use crate::{
    stages::{Spec, config, finalized, manifest, run, run_with, summary, world},
    world::{BINARY, Ended, World, json},
};

#[test]
fn a_flag_overrides_the_spec() {
    let (world, spec) = world();
    let rest = format!("{}  toggles: {{rerank: false}}\n", spec.rest);
    manifest(&world, &Spec { rest, ..spec });
    finalized(run_with(&world, &[("EMBEDDER_ENABLE_RERANK", "false")], &["--toggle", "rerank=true"]));
    let summary = summary(&world);
    assert_eq!(summary["rerank_run"]["executed"], true);
    let said: Vec<String> = summary["feature_toggles"]["provenance"]
        .as_array()
        .expect("provenance")
        .iter()
        .filter(|said| said["key"] == "rerank")
        .map(|said| format!("{}={}", said["layer"].as_str().unwrap_or(""), said["value"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(said, ["default=true", "env=false", "spec=false", "cli=true"]);
}

#[test]
fn the_memory_ceiling_of_the_spec_is_recorded_and_is_none_of_the_cpu() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    // No process is as small as that.
    world.manifest_text(&text.replace("gpu: {count: 0}", "gpu: {count: 0, memoryCeiling: 1.5Mi}"));
    finalized(run(&world));
    let summary = summary(&world);
    let said = summary["feature_toggles"]["provenance"].as_array().expect("provenance").last().expect("a word").clone();
    let expected = serde_json::json!({
        "key": "memory_ceiling", "value": "1572864", "source": "spec.gpu.memoryCeiling", "layer": "spec"
    });
    assert_eq!(said, expected);
    let lease = &summary["telemetry"]["lease_events"][0];
    assert_eq!((&lease["memory_source"], lease.get("ceiling_bytes")), (&"process".into(), None), "{lease}");
}

#[test]
fn a_memory_ceiling_that_is_none_names_the_field_in_every_stage() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    world.manifest_text(&text.replace("gpu: {count: 0}", "gpu: {count: 0, memoryCeiling: 12GB}"));
    let message = run(&world).failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("spec.gpu.memoryCeiling is \"12GB\": write a number of bytes"), "{message}");
    world.manifest_text(&text);
    fs::write(world.path("run.json"), config(&world).to_json()).expect("written");
    for stage in [&["embed", "--shard", "0"][..], &["finalize"][..]] {
        let arguments = ["--config", "run.json", "--gpu-count", "1", "--gpu-memory-ceiling", "lots"];
        let message =
            world.embedrun(&[stage, &arguments].concat()).failed(2, FailureReason::InvalidConfiguration).message;
        assert!(message.contains("spec.gpu.memoryCeiling: memory_ceiling is \"lots\""), "{message}");
    }
}

#[test]
fn a_toggle_that_does_not_parse_names_its_source_in_every_layer() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let refused = |variables: &[(&str, &str)], more: &[&str]| {
        run_with(&world, variables, more).failed(2, FailureReason::InvalidConfiguration).message
    };
    let message = refused(&[("EMBEDDER_ENABLE_RERANK", "maybe")], &[]);
    assert!(
        message.contains("environment variable EMBEDDER_ENABLE_RERANK") && message.contains("\"maybe\""),
        "{message}"
    );
    let message = refused(&[], &["--toggle", "memory_ceiling=lots"]);
    assert!(message.contains("--toggle memory_ceiling=lots"), "{message}");
    fs::write(world.path(".env"), "EMBEDRUN_BATCH_TOKENS=many\n").expect("written");
    let message = refused(&[], &[]);
    assert!(message.contains(".env: EMBEDRUN_BATCH_TOKENS"), "{message}");
    fs::remove_file(world.path(".env")).expect("removed");
    fs::write(world.path("embedder.yaml"), "rerank: 3\n").expect("written");
    let message = refused(&[], &[]);
    assert!(message.contains("embedder.yaml: rerank") && message.contains("expected true or false"), "{message}");
    fs::write(world.path("embedder.yaml"), "sparse: false\n").expect("written");
    finalized(run(&world));
    assert_eq!(summary(&world)["feature_toggles"]["sources"]["sparse"], "file");
}

/// A stage of a pod, with variables of the environment.
fn stage(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    fs::write(world.path("run.json"), config(world).to_json()).expect("written");
    let mut command = Command::new(BINARY);
    command.args(arguments).args(["--config", "run.json"]).envs(variables.iter().copied());
    world.ended(command)
}

const SHARDS: [[&str; 5]; 2] =
    [["embed", "--shard", "0", "--gpu-count", "0"], ["embed", "--shard", "1", "--gpu-count", "0"]];
const NO_SPARSE: (&str, &str) = ("EMBEDDER_ENABLE_SPARSE", "false");

#[test]
fn a_process_with_other_toggles_than_the_plan_is_refused() {
    let (world, spec) = world();
    manifest(&world, &spec);
    stage(&world, &["plan", "--shard-size", "5"], &[]).succeeded();
    let before = world.files();
    let refused = |arguments: &[&str], variable: (&str, &str), parts: &[&str]| {
        let message = stage(&world, arguments, &[variable]).failed(2, FailureReason::InvalidConfiguration).message;
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
    };
    let sparse = [
        "the toggle sparse is \"false\" (environment variable EMBEDDER_ENABLE_SPARSE, layer env)",
        "the plan has \"true\" (default)",
        "spec.toggles",
    ];
    for arguments in [&SHARDS[0][..], &["finalize"], &["plan"]] {
        refused(arguments, NO_SPARSE, &sparse);
    }
    refused(&SHARDS[0], ("EMBEDDER_SPARSE_MODELS", ","), &["the toggle sparse_models is \"\"", "\"splade\""]);
    refused(&["finalize"], ("EMBEDDER_ENABLE_RERANK", "0"), &["the toggle rerank is \"false\""]);
    assert_eq!(world.files(), before);
    // Toggles that change no content may differ.
    stage(&world, &SHARDS[0], &[("EMBEDRUN_BATCH_TOKENS", "64"), ("EMBEDRUN_EXCLUSIVE", "false")]).succeeded();
}

#[test]
fn the_toggles_of_the_plan_hold_for_processes_that_set_none() {
    let (world, spec) = world();
    manifest(&world, &spec);
    stage(&world, &["plan", "--shard-size", "5"], &[NO_SPARSE]).succeeded();
    let message = stage(&world, &SHARDS[0], &[]).failed(2, FailureReason::InvalidConfiguration).message;
    let expected = "the toggle sparse is \"true\" (default), and the plan has \"false\" (environment variable";
    assert!(message.contains(expected), "{message}");
    for arguments in SHARDS {
        stage(&world, &arguments, &[NO_SPARSE]).succeeded();
    }
    stage(&world, &["finalize"], &[NO_SPARSE]).succeeded();
    assert_eq!(summary(&world)["sparse_run"]["enabled"], false);
}

#[test]
fn a_revision_that_is_complete_with_other_toggles_is_not_complete_already() {
    let (world, spec) = world();
    manifest(&world, &spec);
    finalized(run_with(&world, &[], &["--toggle", "sparse=false"]));
    let before = world.files();
    let message = run(&world).failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("the plan has \"false\" (--toggle sparse=false, layer cli)"), "{message}");
    assert_eq!(world.files(), before);
    // A plan of an earlier release has no toggles: those of the summary count.
    let path = world.revision().join("plan.json");
    forget_toggles(&world);
    assert_eq!(json(&path)["version"], 1);
    let message = run(&world).failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("the toggle sparse is \"true\" (default)"), "{message}");
    finalized(run_with(&world, &[NO_SPARSE], &[]));
}

/// Makes the plan one of an earlier release, as far as toggles are concerned.
fn forget_toggles(world: &World) {
    let path = world.revision().join("plan.json");
    let mut plan = json(&path);
    plan["version"] = 1.into();
    plan.as_object_mut().expect("fields").remove("toggles");
    fs::write(path, plan.to_string()).expect("written");
}

#[test]
fn shards_with_different_columns_are_not_completed() {
    let (world, spec) = world();
    manifest(&world, &spec);
    stage(&world, &["plan", "--shard-size", "5"], &[]).succeeded();
    let path = world.revision().join("plan.json");
    let planned = fs::read(&path).expect("a plan");
    stage(&world, &SHARDS[0], &[]).succeeded();
    // Shard 1 as a release without the check would embed it.
    let mut plan = json(&path);
    plan.as_object_mut().expect("fields").remove("toggles");
    fs::write(&path, plan.to_string()).expect("written");
    stage(&world, &SHARDS[1], &[NO_SPARSE]).succeeded();
    fs::write(&path, planned).expect("written");
    let message = stage(&world, &["finalize"], &[]).failed(2, FailureReason::InvalidConfiguration).message;
    for part in [
        "the shards 0 and 1 of collection \"docs\" have different columns",
        "column \"splade_indices\" is a list of UInt32 in shard 0 and missing in shard 1",
        "spec.rerunToken",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!world.path("out/current").exists());
}
