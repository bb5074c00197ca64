//! Toggles from every layer, in the real process.

use std::fs;

use crds::contract::FailureReason;

use crate::stages::{Spec, config, finalized, manifest, run, run_with, summary, world};

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
