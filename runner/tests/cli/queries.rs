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

/// The figures of every list, by stage and model.
fn figures(summary: &Value, metric: &str) -> Vec<f64> {
    let lists = summary["quality"]["lists"].as_array().expect("lists");
    lists.iter().map(|list| list["metrics"][metric].as_f64().expect("a value")).collect()
}

#[test]
fn relevant_chunks_that_are_not_there_are_listed_and_count_as_not_found() {
    let (world, spec) = world();
    let rest = spec.rest.replace("candidates: 6, topK: 3", "candidates: 10, topK: 3");
    let spec = Spec { rest, ..spec };
    // All ten chunks are candidates, so that every chunk that is there is found.
    queries(&world, r#"{"id": "q", "text": "two words", "relevant": ["line-1"]}"#);
    manifest(&world, &spec);
    finalized(run(&world));
    let all_there = summary(&world);
    assert!(all_there["quality"]["unknown_relevant"] == 0 && !all_there["warnings"].to_string().contains("relevant"));
    // The sparse list has only chunks that share a term with the query.
    let dense = |values: Vec<f64>| vec![values[0], values[1], values[2], values[4], values[5]];
    assert_eq!(dense(figures(&all_there, "recall@10")), vec![1.0; 5]);

    fs::remove_dir_all(world.path("out")).expect("removed");
    queries(&world, r#"{"id": "q", "text": "two words", "relevant": ["line-1", "gone-1", "gone-2"]}"#);
    finalized(run(&world));
    let lost = summary(&world);
    assert_eq!((&lost["quality"]["unknown_relevant"], &lost["quality"]["judged_queries"]), (&2.into(), &1.into()));
    let warnings = lost["warnings"].to_string();
    assert!(warnings.contains("gone-1, gone-2") && warnings.contains("count as not found"), "{warnings}");
    assert!(dense(figures(&lost, "recall@10")).iter().all(|recall| (recall - 1.0 / 3.0).abs() < 1e-9));
    // The ideal list has three chunks now.
    let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5;
    for (before, after) in figures(&all_there, "ndcg@10").into_iter().zip(figures(&lost, "ndcg@10")) {
        assert!((after - before / ideal).abs() < 1e-9, "{after} of {before}");
    }
}

#[test]
fn a_gate_sees_that_judged_chunks_are_lost() {
    let (world, spec) = world();
    let judged: Vec<String> = (0..6).map(|n| format!("\"line-{n}\": 2")).collect();
    queries(
        &world,
        &format!(r#"{{"id": "q", "text": "a longer text of several words", "relevant": {{{}}}}}"#, judged.join(", ")),
    );
    let rest = "  rerank: {candidates: 10, topK: 10, queries: {configMap: {name: q, key: q.jsonl}}, gate: {metric: \
                recall@10, minimum: 0.9}}\n";
    let spec = Spec { rest: rest.into(), sparse: String::new(), reranker: String::new(), dense: spec.dense };
    manifest(&world, &spec);
    finalized(run(&world));
    let before = fs::read_to_string(world.path("out/current/docs")).expect("a pointer");
    // Four of six chunks vanish from the source, and a search for the rest is perfect.
    world.source("b.jsonl", "{\"id\": \"line-0\", \"text\": \"one 0\"}\n{\"id\": \"line-1\", \"text\": \"two\"}");
    manifest(&world, &Spec { rest: format!("{rest}  sourceRevision: \"2\"\n"), ..spec });
    let failure = run(&world).failed(2, FailureReason::QualityGate);
    for words in ["recall@10 is 0.3333", "below the minimum of 0.9", "4 judged ids are no chunks"] {
        assert!(failure.message.contains(words), "{}", failure.message);
    }
    assert_eq!(fs::read_to_string(world.path("out/current/docs")).expect("a pointer"), before);
}

#[test]
fn a_query_about_one_of_two_collections_is_judged_there_alone() {
    let (world, spec) = world();
    fs::create_dir(world.path("more")).expect("a folder");
    fs::write(world.path("more/c.jsonl"), r#"{"id": "far-0", "text": "far away"}"#).expect("written");
    queries(
        &world,
        r#"{"id": "near", "text": "two words", "relevant": ["line-1", "gone-1"]}
           {"id": "far", "text": "far away", "relevant": ["far-0"]}
           {"id": "nowhere", "text": "nothing", "relevant": ["gone-2"]}"#,
    );
    let rest = "  rerank: {candidates: 10, topK: 3, queries: {configMap: {name: q, key: q.jsonl}}}\n";
    let spec = Spec { rest: rest.into(), sparse: String::new(), reranker: String::new(), dense: spec.dense };
    manifest(&world, &spec);
    let root = world.path("").display().to_string();
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    let second = format!("  collections:\n    - {{name: more, source: {{hostPath: {{path: {root}more}}}}}}\n");
    world.manifest_text(&text.replacen("  collections:\n", &second, 1));
    finalized(run(&world));
    let of = |collection: &str| json(&world.revision().join(collection).join("processing_summary.json"));
    // One of two, none of one.
    let docs = of("docs");
    assert_eq!((&docs["quality"]["judged_queries"], &docs["quality"]["unknown_relevant"]), (&2.into(), &2.into()));
    assert!(figures(&docs, "recall@10").iter().all(|recall| (recall - 0.25).abs() < 1e-9), "{}", docs["quality"]);
    // One of one, none of one.
    let more = of("more");
    assert_eq!((&more["quality"]["judged_queries"], &more["quality"]["unknown_relevant"]), (&2.into(), &1.into()));
    assert!(figures(&more, "recall@10").iter().all(|recall| (recall - 0.5).abs() < 1e-9), "{}", more["quality"]);
    let run = json(&world.revision().join("processing_summary.json"));
    assert!(run["warnings"].to_string().contains("2 relevant id(s)"), "{}", run["warnings"]);
}

#[test]
fn a_drop_from_a_revision_of_other_queries_is_not_compared_and_said_so() {
    let (world, spec) = world();
    queries(&world, r#"{"id": "q", "text": "third text of the file", "relevant": ["line-1"]}"#);
    let gated = |token: &str| {
        let rest = format!(
            "  rerank: {{candidates: 10, topK: 3, queries: {{configMap: {{name: q, key: q.jsonl}}}}, gate: {{metric: \
             recall@10, maximumDrop: 0.1}}}}\n  rerunToken: \"{token}\"\n"
        );
        Spec { rest, sparse: String::new(), reranker: String::new(), dense: spec.dense.clone() }
    };
    manifest(&world, &gated("a"));
    finalized(run(&world));
    // Harder queries: the value halves, which is no drop of the vectors.
    queries(&world, r#"{"id": "q", "text": "third text of the file", "relevant": ["line-1", "gone"]}"#);
    manifest(&world, &gated("b"));
    finalized(run(&world));
    let current = world.pointer("docs").revision;
    let summary = json(&world.path("out/runs").join(current.as_str()).join("docs/processing_summary.json"));
    assert_eq!((&summary["gate"]["passed"], &summary["gate"]["previous"]), (&true.into(), &Value::Null));
    let said = summary["gate"]["not_compared"].as_str().unwrap_or_default();
    assert!(said.contains("was judged by other queries"), "{}", summary["gate"]);
    assert!(summary["warnings"].to_string().contains("maximumDrop was not checked"), "{}", summary["warnings"]);
    // The same queries again are compared.
    manifest(&world, &gated("c"));
    finalized(run(&world));
    let current = world.pointer("docs").revision;
    let summary = json(&world.path("out/runs").join(current.as_str()).join("docs/processing_summary.json"));
    assert_eq!((&summary["gate"]["previous"], &summary["gate"]["not_compared"]), (&0.5.into(), &Value::Null));
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
