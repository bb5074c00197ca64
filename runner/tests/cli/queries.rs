//! Queries, judgements and the gate: given, missing, wrong, changed.

use std::{fs, process::Command};

use crds::contract::FailureReason;
use serde_json::Value;

use crate::{
    stages::{Spec, finalized, manifest, queries, rankings, run, summary, world},
    world::{BINARY, json},
};

#[test]
fn without_queries_a_collection_is_probed_with_its_headings() {
    let (world, spec) = world();
    world.source("c.md", "# Guide\n\nAbout it.\n\n## Retries\n\nThree times.\n\n## Limits\n\nNone.\n");
    manifest(&world, &Spec { rest: String::new(), ..spec });
    finalized(run(&world));
    let summary = summary(&world);
    assert_eq!(summary["rerank_run"]["queries_from"], "headings");
    assert_eq!(summary["rerank_run"]["executed"], true);
    assert_eq!(summary["quality"], Value::Null);
    let texts: Vec<String> =
        rankings(&world).iter().map(|ranking| ranking["text"].as_str().unwrap_or("").into()).collect();
    assert_eq!(texts, ["Guide", "Retries", "Limits"]);
}

#[test]
fn a_gate_that_is_not_met_keeps_readers_where_they_are() {
    let (world, spec) = world();
    manifest(&world, &spec);
    finalized(run(&world));
    let before = fs::read_to_string(world.path("out/current/docs")).expect("a pointer");
    let gated = |gate: &str, token: &str| {
        let rest = format!(
            "  rerank: {{candidates: 6, topK: 3, queries: {{configMap: {{name: q, key: q.jsonl}}}}, gate: {gate}}}\n  \
             rerunToken: \"{token}\"\n"
        );
        Spec { rest, dense: spec.dense.clone(), sparse: spec.sparse.clone(), reranker: spec.reranker.clone() }
    };
    manifest(&world, &gated("{metric: ndcg@10, minimum: 1.0}", "a"));
    // The same again: a revision that failed at the gate has failed, and is not computed twice.
    for _ in 0..2 {
        let failure = run(&world).failed(2, FailureReason::QualityGate);
        assert!(
            failure.message.contains("ndcg@10") && failure.message.contains("below the minimum of 1"),
            "{}",
            failure.message
        );
        assert_eq!(fs::read_to_string(world.path("out/current/docs")).expect("a pointer"), before);
    }
    manifest(&world, &gated("{metric: mrr, maximumDrop: 0.0}", "b"));
    finalized(run(&world));
    let after = fs::read_to_string(world.path("out/current/docs")).expect("a pointer");
    assert_ne!(after, before, "as good as before is good enough");
    let published = world.pointer("docs").revision;
    let summary = json(&world.path("out/runs").join(published.as_str()).join("docs/processing_summary.json"));
    assert_eq!(summary["gate"]["passed"], true);
    assert_eq!(summary["gate"]["previous"], summary["gate"]["value"]);
}

#[test]
fn a_complete_revision_says_that_its_queries_have_changed() {
    let (world, spec) = world();
    manifest(&world, &spec);
    assert_eq!(finalized(run(&world)).source_changed, None);
    assert_eq!(finalized(run(&world)).source_changed, None);
    queries(&world, r#"{"id": "q1", "text": "three words", "relevant": ["line-2"]}"#);
    let changed = finalized(run(&world)).source_changed.expect("changed");
    for part in ["the queries in configmap://q/q.jsonl have changed", "spec.rerunToken"] {
        assert!(changed.contains(part), "{part}: {changed}");
    }
}

#[test]
fn bad_queries_are_rejected_before_a_shard_is_embedded() {
    let (world, spec) = world();
    let gate = "  rerank: {queries: {configMap: {name: q, key: q.jsonl}}, gate: {metric: mrr, minimum: 0.1}}\n";
    let cases = [
        ("", FailureReason::InvalidRecord, 3, "has no queries"),
        (
            "{\"id\": \"1\", \"text\": \"a\"}\n{\"id\": \"1\", \"text\": \"b\"}",
            FailureReason::DuplicateId,
            3,
            "duplicate id",
        ),
        ("{\"id\": \"1\"", FailureReason::InvalidRecord, 3, "line 1"),
        ("{\"id\": \"1\", \"text\": \"a\"}", FailureReason::InvalidConfiguration, 2, "needs judgements"),
    ];
    for (lines, reason, code, words) in cases {
        queries(&world, lines);
        let rest = if code == 2 { gate.to_owned() } else { spec.rest.clone() };
        let spec =
            Spec { rest, dense: spec.dense.clone(), sparse: spec.sparse.clone(), reranker: spec.reranker.clone() };
        manifest(&world, &spec);
        let failure = run(&world).failed(code, reason);
        assert!(failure.message.contains(words), "{}", failure.message);
        assert!(!world.files().keys().any(|file| file.ends_with("plan.json")));
    }
    fs::remove_file(world.path("queries/q.jsonl")).expect("removed");
    manifest(&world, &spec);
    let failure = run(&world).failed(2, FailureReason::SourceNotFound);
    assert!(failure.message.contains("configmap://q/q.jsonl"), "{}", failure.message);
}

#[test]
fn missing_relevant_chunks_are_listed_and_counted() {
    let (world, spec) = world();
    queries(&world, r#"{"id": "q", "text": "two words", "relevant": ["line-1", "gone-1", "gone-2"]}"#);
    manifest(&world, &spec);
    finalized(run(&world));
    let summary = summary(&world);
    assert_eq!(summary["quality"]["unknown_relevant"], 2);
    assert!(summary["warnings"].to_string().contains("gone-1, gone-2"), "{}", summary["warnings"]);
    // The figures are over the one that is there: it is found or not.
    let recall = |list: &Value| (list["metrics"]["recall@10"].as_f64().expect("a value") * 100.0) as u32;
    let lists = summary["quality"]["lists"].as_array().expect("lists").clone();
    assert!(lists.iter().all(|list| [0, 100].contains(&recall(list))), "{lists:?}");
    assert!(lists.iter().any(|list| recall(list) == 100), "{lists:?}");
}

#[test]
fn queries_that_change_after_the_plan_are_noticed() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml", "--volume", "configmap/q=queries"]).env("EMBEDRUN_MEMORY_CEILING", "1Mi");
    world.ended(command).failed(4, FailureReason::OutOfMemory);
    queries(&world, r#"{"id": "other", "text": "another question"}"#);
    let failure = run(&world).failed(3, FailureReason::SourceChanged);
    assert!(failure.message.contains("spec.rerunToken"), "{}", failure.message);
}
