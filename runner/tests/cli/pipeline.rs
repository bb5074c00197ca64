//! The stages after the dense passes, from the manifest to what is written and said: sparse, fusion, candidates, rerank.

use std::{fs, path::Path};

use arrow_array::{Array, ListArray, StringArray, UInt32Array, cast::AsArray};
use crds::contract::{CollectionResult, FailureReason};
use serde_json::Value;

use crate::{
    stages::{
        Spec, assert_ranked, batches, decoded, finalized, ids, manifest, nearest, queries, rankings, run, run_with,
        scored, summary, vectors, world,
    },
    world::{Ended, World, json},
};

#[test]
fn the_whole_pipeline_leaves_vectors_rankings_and_an_account() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let result = finalized(run_with(&world, &[], &["--shard-size", "4"]));
    for batch in batches(&world) {
        let (tiny, other, fused) = (vectors(&batch, "tiny"), vectors(&batch, "other"), vectors(&batch, "fused"));
        for row in 0..batch.num_rows() {
            // Both are of length 1, the weights are 2 and 1.
            let expected = tiny[row].iter().map(|x| x * (2.0f32 / 3.0).sqrt());
            let expected = expected.chain(other[row].iter().map(|x| x * (1.0f32 / 3.0).sqrt()));
            assert!(expected.zip(&fused[row]).all(|(one, other)| (one - other).abs() < 1e-6));
        }
        let indices: &ListArray = batch.column_by_name("splade_indices").expect("indices").as_list();
        let values: &ListArray = batch.column_by_name("splade_values").expect("values").as_list();
        let sources: &StringArray = batch.column_by_name("splade_source").expect("sources").as_string();
        assert!(sources.iter().all(|source| source == Some("model")));
        for row in 0..batch.num_rows() {
            let indices = indices.value(row);
            let indices = indices.as_any().downcast_ref::<UInt32Array>().expect("ids").values();
            assert!(indices.is_sorted() && indices.len() <= 64 && indices.iter().all(|id| *id < 320));
            assert_eq!(values.value(row).len(), indices.len());
        }
    }
    let summary = summary(&world);
    assert_eq!(summary["fusion_run"]["method"], "WeightedConcat");
    assert_eq!(summary["sparse_run"]["coverage"], 1.0);
    let rerank = &summary["rerank_run"];
    assert_eq!((&rerank["executed"], &rerank["queries"], &rerank["pairs"]), (&true.into(), &3.into(), &18.into()));
    assert_eq!(rerank["candidate_fusion"], "ReciprocalRankFusion");
    assert!(rerank["median_query_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    assert_eq!(summary["quality"]["judged_queries"], 2);
    let lists: Vec<String> = summary["quality"]["lists"]
        .as_array()
        .expect("lists")
        .iter()
        .map(|list| format!("{} {}", list["stage"].as_str().unwrap_or(""), list["model"].as_str().unwrap_or("-")))
        .collect();
    assert_eq!(lists, ["dense tiny", "dense other", "fused -", "sparse splade", "candidates -", "reranked -"]);
    let spans: Vec<&str> = summary["telemetry"]["spans"]
        .as_array()
        .expect("spans")
        .iter()
        .filter_map(|span| span["name"].as_str())
        .collect();
    let expected = ["rag.plan", "rag.dense", "rag.sparse", "rag.fusion", "rag.retrieve", "rag.rerank", "rag.export"];
    assert_eq!(spans, expected);
    let leases: Vec<&str> = summary["telemetry"]["lease_events"]
        .as_array()
        .expect("leases")
        .iter()
        .filter_map(|lease| lease["model"].as_str())
        .collect();
    assert_eq!(leases, ["tiny", "other", "splade", "tiny", "other", "splade", "tiny", "other", "splade", "ce"]);
    let rankings = rankings(&world);
    assert_eq!(rankings.len(), 3);
    for ranking in &rankings {
        let results = ranking["results"].as_array().expect("results");
        assert_eq!(results.len(), 3);
        let scores: Vec<f64> = results.iter().filter_map(|result| result["score"].as_f64()).collect();
        assert!(scores.is_sorted_by(|one, other| one >= other));
        assert!(
            results.iter().all(|result| result["rank_before"].as_u64().is_some_and(|rank| (1..=6).contains(&rank)))
        );
    }
    let CollectionResult { sparse: Some(sparse), rerank: Some(rerank), quality, .. } = &result.collections[0] else {
        panic!("no stages: {result:?}");
    };
    assert_eq!((sparse.executed, sparse.coverage, sparse.fallback), (true, Some(1000), None));
    assert_eq!((rerank.executed, rerank.candidates, rerank.fallback), (true, Some(18), None));
    assert!(quality.iter().any(|(metric, _)| metric == "ndcg@10"));
}

#[test]
fn the_report_and_the_summary_are_shown_to_people() {
    let (world, spec) = world();
    manifest(&world, &spec);
    finalized(run_with(&world, &[("EMBEDDER_ENABLE_SPARSE", "false")], &[]));
    let report = fs::read_to_string(world.revision().join("report.html")).expect("a report");
    for words in ["<svg", "FeatureDisabled", "ndcg@10"] {
        assert!(report.contains(words), "{words} is not in\n{report}");
    }
    assert!(!report.contains("<script"));
    let path = world.revision().join("docs/processing_summary.json");
    let shown = world.embedrun(&["summary", "show", &path.display().to_string()]).succeeded().stdout;
    for words in
        ["sparse: false (override via env; default true)", "FeatureDisabled", "reranked", "ndcg@10", "rankings.jsonl"]
    {
        assert!(shown.contains(words), "{words} is not in\n{shown}");
    }
    let old = world.path("old.json");
    fs::write(&old, r#"{"schema_version": "4.1"}"#).expect("written");
    let refused = world.embedrun(&["summary", "show", &old.display().to_string()]);
    assert!(refused.code == 3 && refused.stderr.contains("schema version 4.1"), "{}", refused.stderr);
}

#[test]
fn summaries_are_of_the_published_schema() {
    let (world, spec) = world();
    manifest(&world, &spec);
    finalized(run(&world));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/generated/processing_summary.schema.json");
    let validator = jsonschema::validator_for(&json(&file)).expect("a schema");
    for summary in [summary(&world), json(&world.revision().join("processing_summary.json"))] {
        let errors: Vec<String> = validator.iter_errors(&summary).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    let mut wrong = summary(&world);
    wrong["chunk_count"] = "many".into();
    assert!(!validator.is_valid(&wrong));
}

#[test]
fn candidates_do_not_depend_on_the_shards() {
    let question = "third text of the file";
    let mut all: Vec<Vec<(String, f64)>> = Vec::new();
    // Two candidates: some shards have more chunks than that, some fewer, and one has them all.
    for size in ["1", "2", "3", "7", "1000"] {
        let (world, spec) = world();
        queries(&world, &format!("{{\"id\": \"q\", \"text\": \"{question}\"}}"));
        let root = world.path("").display().to_string();
        let dense = format!("[{{name: tiny, source: \"file://{root}model\"}}]");
        let rest = spec.rest.replace("candidates: 6, topK: 3", "candidates: 2, topK: 2");
        manifest(&world, &Spec { dense, rest, sparse: String::new(), reranker: String::new() });
        finalized(run_with(&world, &[], &["--shard-size", size]));
        let ids = ids(&world);
        let rows = decoded(&world, "tiny", "F32");
        // The text of the query is that of chunk 2, and the model has no prompts.
        let expected = nearest(&ids, &rows, "cosine", &rows[2]);
        let found = scored(rankings(&world)[0]["results"].as_array().expect("results"));
        assert_eq!((found.len(), &found[0].0), (2, &ids[2]), "{size}: {found:?}");
        assert_ranked(&found, &expected, size);
        all.push(found);
    }
    assert!(all.iter().all(|found| *found == all[0]), "{all:?}");
}

#[test]
fn every_stage_is_the_same_at_any_shard_size() {
    let mut all: Vec<Vec<Value>> = Vec::new();
    for size in ["1", "3", "8", "1000"] {
        let (world, spec) = world();
        let rest = spec.rest.replace("candidates: 6, topK: 3", "candidates: 2, topK: 2");
        manifest(&world, &Spec { rest, ..spec });
        finalized(run_with(&world, &[], &["--shard-size", size]));
        let quality = summary(&world)["quality"]["lists"].clone();
        assert_eq!(quality.as_array().map(Vec::len), Some(6));
        let rankings = rankings(&world);
        assert!(rankings.len() == 3 && rankings.iter().all(|list| list["results"].as_array().map(Vec::len) == Some(2)));
        all.push([rankings, vec![quality]].concat());
    }
    for other in &all[1..] {
        assert_eq!(other, &all[0]);
    }
}

#[test]
fn one_model_is_not_fused_and_no_queries_leave_no_candidates() {
    let (world, spec) = world();
    let root = world.path("").display().to_string();
    let dense = format!("[{{name: tiny, source: \"file://{root}model\"}}]");
    manifest(&world, &Spec { dense, reranker: String::new(), rest: String::new(), ..spec });
    let result = finalized(run(&world));
    assert!(result.totals.rerank.is_none() && result.totals.quality.is_empty());
    assert!(batches(&world).iter().all(|batch| batch.column_by_name("fused").is_none()));
    assert!(!world.files().keys().any(|file| file.contains("candidates") || file.contains("rankings")));
}

#[test]
fn the_mean_is_that_of_vectors_cut_to_the_smaller_width() {
    let (world, spec) = world();
    let root = world.path("").display().to_string();
    let dense = format!(
        "[{{name: tiny, source: \"file://{root}model\", weight: 3}}, {{name: other, source: \"file://{root}other\", \
         dimensions: 8}}]"
    );
    let rest = format!("{}  fusion: {{method: WeightedMean, candidates: Weighted}}\n", spec.rest);
    manifest(&world, &Spec { dense, rest, ..spec });
    finalized(run_with(&world, &[], &["--shard-size", "4"]));
    let unit = |row: &[f64]| -> Vec<f64> {
        let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.iter().map(|value| value / length).collect()
    };
    let [tiny, other, fused] = ["tiny", "other", "fused"].map(|name| decoded(&world, name, "F32"));
    assert_eq!((tiny.len(), tiny[0].len(), other[0].len()), (10, 16, 8));
    for ((tiny, other), fused) in tiny.iter().zip(&other).zip(&fused) {
        let sum: Vec<f64> = unit(&tiny[..8]).iter().zip(unit(other)).map(|(a, b)| 0.75 * a + 0.25 * b).collect();
        let expected = unit(&sum);
        assert_eq!(fused.len(), 8);
        let off = expected.iter().zip(fused).map(|(expected, fused)| (expected - fused).abs()).fold(0.0, f64::max);
        assert!(off < 1e-6, "{fused:?} is not {expected:?}");
    }
    assert_eq!(summary(&world)["rerank_run"]["candidate_fusion"], "Weighted");
}

#[test]
fn models_that_need_not_have_the_device_alone_are_loaded_once() {
    let (world, spec) = world();
    let fused = |world: &World| batches(world).iter().flat_map(|batch| vectors(batch, "fused")).collect::<Vec<_>>();
    manifest(&world, &spec);
    let alone = run_with(&world, &[], &["--shard-size", "4"]).succeeded();
    let expected = fused(&world);
    fs::remove_dir_all(world.path("out")).expect("removed");
    let rest = format!("{}  toggles: {{exclusive: false}}\n", spec.rest);
    manifest(&world, &Spec { rest, ..spec });
    let resident = run_with(&world, &[], &["--shard-size", "4"]).succeeded();
    assert_eq!(fused(&world), expected);
    let count = |ended: &Ended| ended.stderr.matches("model is cached").count();
    // Three shards, three models each; the first shard loads them.
    assert_eq!((count(&alone), count(&resident)), (0, 6), "{}", resident.stderr);
}

#[test]
fn a_top_k_above_the_number_of_chunks_returns_all_with_a_warning() {
    let (world, spec) = world();
    let rest = spec.rest.replace("candidates: 6, topK: 3", "candidates: 50, topK: 20");
    manifest(&world, &Spec { rest, ..spec });
    finalized(run(&world));
    assert!(rankings(&world).iter().all(|ranking| ranking["results"].as_array().map(Vec::len) == Some(10)));
    let warnings = summary(&world)["warnings"].to_string();
    assert!(warnings.contains("topK is 20, but the collection has only 10 chunks"), "{warnings}");
}

#[test]
fn fewer_candidates_than_the_top_k_are_rejected_with_the_manifest() {
    let (world, spec) = world();
    let rest = spec.rest.replace("candidates: 6, topK: 3", "candidates: 3, topK: 6");
    manifest(&world, &Spec { rest, ..spec });
    let failure = run(&world).failed(2, FailureReason::InvalidConfiguration);
    assert!(failure.message.contains("must not exceed candidates"), "{}", failure.message);
}
