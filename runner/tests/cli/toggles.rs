//! Toggles from every layer, in the real process.

use std::fs;

use crds::contract::FailureReason;

use crate::stages::{Spec, finalized, manifest, run, run_with, summary, world};

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
