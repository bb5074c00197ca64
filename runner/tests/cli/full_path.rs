//! From a manifest to vectors, in one process and in three.

use std::{collections::BTreeMap, fs, process::Command};

use crds::contract::{PlanResult, StageOutcome};

use crate::{
    common::{DIMENSIONS, MAX_TOKENS, write_tiny_bert},
    world::{BINARY, Row, World, json},
};

#[test]
fn a_run_leaves_vectors_summaries_and_a_pointer() {
    let world = World::new();
    world.ten_chunks();
    let ended = world.run(&["--shard-size", "4"]).succeeded();
    let rows = world.rows("docs");
    let texts: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(texts[..5], ["first", "second text", "third text of the file", "fourth", "one 0"]);
    assert_eq!(rows.iter().map(|row| row.ordinal).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!((rows[4].id.as_str(), &rows[4].metadata), ("line-0", &serde_json::json!({"n": 0})));
    assert!(rows.iter().all(|row| row.vector.len() == DIMENSIONS));
    let revision = world.revision();
    let name = revision.file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!((name.len(), world.pointer("docs").revision.as_str()), (32, name.as_str()));
    let summary = json(&revision.join("docs/processing_summary.json"));
    assert_eq!(summary["chunk_count"], 10);
    assert_eq!(summary["dense_run"]["passes"][0]["dimensions"], DIMENSIONS);
    assert_eq!(summary["dense_run"]["passes"][0]["max_tokens"], MAX_TOKENS);
    assert_eq!(summary["dense_run"]["passes"][0]["chunks"], 10);
    assert_eq!(summary["dense_run"]["passes"][0]["batches"], 3);
    assert_eq!(summary["device_run"]["used"], serde_json::json!(["cpu"]));
    let spans: Vec<&str> = summary["telemetry"]["spans"]
        .as_array()
        .expect("spans")
        .iter()
        .filter_map(|span| span["name"].as_str())
        .collect();
    assert_eq!(spans, ["rag.plan", "rag.dense", "rag.export"]);
    let Some(StageOutcome::Finalized(result)) = ended.result.map(|result| result.outcome) else {
        panic!("not finalized");
    };
    assert_eq!((result.totals.chunks, result.collections.len()), (10, 1));
}

#[test]
fn three_processes_write_the_same_vectors_as_one() {
    let one = World::new();
    one.ten_chunks();
    one.run(&["--shard-size", "4"]).succeeded();
    let three = World::new();
    three.ten_chunks();
    let planned = three.plan(4).succeeded();
    let Some(StageOutcome::Planned(PlanResult { shards: 3, chunks: 10, complete: None })) =
        planned.result.map(|result| result.outcome)
    else {
        panic!("not planned");
    };
    // In any order, as pods do it.
    for shard in [2, 0, 1] {
        three.embed(shard).succeeded();
    }
    three.finalize().succeeded();
    assert_eq!(bits(&one.rows("docs")), bits(&three.rows("docs")));
}

/// Rows with the bits of their vectors, so that equal means equal.
fn bits(rows: &[Row]) -> Vec<(String, u64, String, Vec<u32>)> {
    rows.iter()
        .map(|row| {
            let bits = row.vector.iter().map(|value| value.to_bits()).collect();
            (row.id.clone(), row.ordinal, row.text.clone(), bits)
        })
        .collect()
}

#[test]
fn rows_come_in_the_order_of_the_input_at_any_shard_size() {
    let mut all: Vec<Vec<Row>> = Vec::new();
    for shard_size in ["1", "3", "7", "1000"] {
        let world = World::new();
        world.ten_chunks();
        world.run(&["--shard-size", shard_size]).succeeded();
        all.push(world.rows("docs"));
    }
    assert_eq!(all[0].len(), 10);
    // Different rows have different bits, so that rows in another order are noticed.
    let mut vectors: Vec<Vec<u32>> = bits(&all[0]).into_iter().map(|(.., bits)| bits).collect();
    vectors.sort();
    vectors.dedup();
    assert_eq!(vectors.len(), 10);
    for rows in &all[1..] {
        assert_eq!(bits(rows), bits(&all[0]));
    }
}

#[test]
fn a_revision_that_is_complete_is_not_computed_again() {
    let world = World::new();
    world.ten_chunks();
    let first = world.run(&[]).succeeded();
    let files = world.files();
    // The model is gone: whoever computed would fail.
    fs::remove_dir_all(world.path("model")).expect("removed");
    fs::write(world.path("out/current/docs"), "another\n").expect("a pointer");
    let second = world.run(&["--shard-size", "1"]).succeeded();
    assert_eq!(first.result, second.result);
    let without_pointer = |mut files: BTreeMap<String, Vec<u8>>| {
        files.retain(|name, _| !name.starts_with("current/"));
        files
    };
    let files = without_pointer(files);
    assert_eq!(without_pointer(world.files()), files);
    assert_eq!(world.pointer("docs").revision.as_str(), world.revision().file_name().expect("a name"));
    let plan = world.plan(1).succeeded();
    let Some(StageOutcome::Planned(PlanResult { complete: Some(result), .. })) =
        plan.result.map(|result| result.outcome)
    else {
        panic!("not complete");
    };
    assert_eq!(Some(StageOutcome::Finalized(result)), first.result.map(|result| result.outcome));
    world.finalize().succeeded();
    assert_eq!(without_pointer(world.files()), files);
}

#[test]
fn a_plan_is_made_once_whatever_the_shard_size_says_later() {
    let world = World::new();
    world.ten_chunks();
    world.plan(4).succeeded();
    let files = world.files();
    let again = world.plan(1).succeeded();
    let mut after = world.files();
    // The time at which it was taken up again.
    after.retain(|name, _| !name.ends_with("/plan_time.json"));
    assert_eq!(after, files);
    let Some(StageOutcome::Planned(plan)) = again.result.map(|result| result.outcome) else { panic!("not planned") };
    assert_eq!(plan.shards, 3);
}

#[test]
fn a_shard_is_committed_once() {
    let world = World::new();
    world.ten_chunks();
    world.plan(5).succeeded();
    world.embed(0).succeeded();
    let files = world.files();
    let again = world.embed(0).succeeded();
    assert_eq!(world.files(), files);
    let Some(StageOutcome::Embedded(shard)) = again.result.map(|result| result.outcome) else { panic!("not embedded") };
    assert!(shard.already_committed);
}

#[test]
fn leftovers_of_a_killed_attempt_are_deleted() {
    let world = World::new();
    world.ten_chunks();
    world.plan(100).succeeded();
    let shard = world.revision().join("docs/shard-00000");
    fs::create_dir_all(&shard).expect("a folder");
    fs::write(shard.join("00aa.parquet"), "never committed").expect("a file");
    fs::write(shard.join("00bb.part"), "never named").expect("a file");
    fs::write(shard.join("00cc.part#1"), "never finished").expect("a file");
    world.embed(0).succeeded();
    let names = || -> Vec<String> {
        let entries = fs::read_dir(&shard).expect("a shard").flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name != "_COMMITTED.json").collect()
    };
    // What a marker of another attempt may name is kept until the revision is complete.
    assert_eq!(names().len(), 2, "{:?}", names());
    assert!(names().iter().all(|name| name.ends_with(".parquet")), "{:?}", names());
    world.finalize().succeeded();
    assert_eq!(names().len(), 1, "{:?}", names());
    assert_ne!(names(), ["00aa.parquet"]);
}

#[test]
fn the_shard_of_a_pod_is_its_completion_index() {
    let world = World::new();
    world.ten_chunks();
    world.plan(5).succeeded();
    let mut shell = Command::new("env");
    shell.args(["JOB_COMPLETION_INDEX=1", BINARY, "embed", "--config", "run.json", "--gpu-count", "0"]);
    let ended = world.ended(shell).succeeded();
    let Some(StageOutcome::Embedded(shard)) = ended.result.map(|result| result.outcome) else { panic!("not embedded") };
    assert_eq!(shard.shard, 1);
}

#[test]
fn every_model_has_its_own_vectors() {
    let world = World::new();
    world.ten_chunks();
    write_tiny_bert(&world.path("other"), 2);
    let manifest = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    let other = format!("/model\"}}, {{name: other, source: \"file://{}\"}}]", world.path("other").display());
    world.manifest_text(&manifest.replace("/model\"}]", &other));
    world.run(&[]).succeeded();
    let summary = json(&world.revision().join("processing_summary.json"));
    let passes = summary["dense_run"]["passes"].as_array().expect("passes");
    assert_eq!(passes.len(), 2);
    assert_ne!(passes[0]["weights_sha256"], passes[1]["weights_sha256"]);
}

#[test]
fn a_question_finds_its_own_text_first() {
    let world = World::new();
    world.ten_chunks();
    world.run(&[]).succeeded();
    let arguments = ["search", "-f", "run.yaml", "-c", "docs", "-k", "3", "--json", "third text of the file"];
    let ended = world.embedrun(&arguments).succeeded();
    let hits: Vec<serde_json::Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((hits.len(), &hits[0]["text"]), (3, &serde_json::json!("third text of the file")));
    assert!(hits[0]["score"].as_f64() > Some(0.999), "{}", ended.stdout);
    assert!(hits[1]["score"].as_f64() <= hits[0]["score"].as_f64());
    let shown = world.embedrun(&["search", "-f", "run.yaml", "third text of the file"]).succeeded();
    assert!(shown.stdout.starts_with("1. 1.0000"), "{}", shown.stdout);
}
