//! The stages after the dense passes, from the manifest to what is written and said: sparse, fusion, candidates, rerank,
//! quality, gate, toggles, fallbacks.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use arrow_array::{
    Array, FixedSizeListArray, Float32Array, ListArray, RecordBatch, StringArray, UInt32Array, cast::AsArray,
};
use crds::{
    contract::{CollectionResult, FailureReason, FinalizeResult, StageFallback, StageOutcome},
    v1alpha1::{FallbackReason, FallbackSource},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::{
    common::write_tiny_bert,
    world::{BINARY, Ended, World, json},
};

/// What a manifest says of the stages, line by line below `spec`.
pub struct Spec {
    dense: String,
    sparse: String,
    reranker: String,
    rest: String,
}

/// A world with ten chunks, two dense models, a sparse model, a reranker and three queries.
pub fn world() -> (World, Spec) {
    let world = World::new();
    world.ten_chunks();
    write_tiny_bert(&world.path("other"), 2);
    for (name, fixture) in [("sparse", "bert-mlm-untied"), ("reranker", "rerank-bert")] {
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures").join(fixture), &world.path(name));
    }
    fs::create_dir(world.path("queries")).expect("a folder");
    queries(
        &world,
        r#"{"id": "q1", "text": "two words", "relevant": ["line-1", "line-5"]}
           {"id": "q2", "text": "longer text", "relevant": {"line-3": 3, "line-2": 1}}
           {"id": "q3", "text": "anything"}"#,
    );
    let root = world.path("").display().to_string();
    let spec = Spec {
        dense: format!(
            "[{{name: tiny, source: \"file://{root}model\", weight: 2}}, {{name: other, source: \"file://{root}other\"}}]"
        ),
        sparse: format!("[{{name: splade, source: \"file://{root}sparse\", topK: 64}}]"),
        reranker: format!("{{name: ce, source: \"file://{root}reranker\"}}"),
        rest: "  rerank: {candidates: 6, topK: 3, queries: {configMap: {name: q, key: q.jsonl}}}\n".into(),
    };
    (world, spec)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a fixture").flatten() {
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).expect("copied");
        }
    }
}

fn queries(world: &World, lines: &str) {
    fs::write(world.path("queries/q.jsonl"), lines).expect("written");
}

pub fn manifest(world: &World, spec: &Spec) {
    let root = world.path("").display().to_string();
    let line =
        |name: &str, value: &str| if value.is_empty() { String::new() } else { format!("    {name}: {value}\n") };
    world.manifest_text(&format!(
        "apiVersion: embedrun.dev/v1alpha1\nkind: EmbeddingRun\nmetadata: {{name: handbook}}\nspec:\n  collections:\n    \
         - {{name: docs, source: {{hostPath: {{path: {root}source}}}}}}\n  models:\n{}{}{}  output: {{hostPath: {{path: \
         {root}out}}}}\n  gpu: {{count: 0}}\n{}",
        line("dense", &spec.dense),
        line("sparse", &spec.sparse),
        line("reranker", &spec.reranker),
        spec.rest
    ));
}

/// Runs with variables of the environment.
fn run_with(world: &World, variables: &[(&str, &str)], more: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml", "--volume", "configmap/q=queries"]).args(more);
    command.envs(variables.iter().copied());
    world.ended(command)
}

fn run(world: &World) -> Ended {
    run_with(world, &[], &[])
}

fn finalized(ended: Ended) -> FinalizeResult {
    match ended.succeeded().result.map(|result| result.outcome) {
        Some(StageOutcome::Finalized(result)) => result,
        other => panic!("not finalized: {other:?}"),
    }
}

fn summary(world: &World) -> Value {
    json(&world.revision().join("docs/processing_summary.json"))
}

fn rankings(world: &World) -> Vec<Value> {
    let text = fs::read_to_string(world.revision().join("docs/rankings.jsonl")).expect("rankings");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The rows of all shards.
fn batches(world: &World) -> Vec<RecordBatch> {
    let files = summary(world)["export_run"]["files"].as_array().expect("files").clone();
    let read = |file: &Value| {
        let file = fs::File::open(world.path("out").join(file["path"].as_str().expect("a path"))).expect("a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
        reader.map(|batch| batch.expect("a batch")).collect::<Vec<_>>()
    };
    files.iter().flat_map(read).collect()
}

fn vectors(batch: &RecordBatch, name: &str) -> Vec<Vec<f32>> {
    let list: &FixedSizeListArray = batch.column_by_name(name).expect(name).as_fixed_size_list();
    let row = |row: usize| list.value(row).as_any().downcast_ref::<Float32Array>().expect("floats").values().to_vec();
    (0..list.len()).map(row).collect()
}

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
    let mut all: Vec<Vec<Value>> = Vec::new();
    for size in ["1", "3", "1000"] {
        let (world, spec) = world();
        manifest(&world, &spec);
        finalized(run_with(&world, &[], &["--shard-size", size]));
        all.push(rankings(&world));
    }
    let ids = |rankings: &[Value]| -> Vec<String> {
        let results = rankings.iter().flat_map(|ranking| ranking["results"].as_array().expect("results"));
        results.map(|result| format!("{} {}", result["id"], result["rank_before"])).collect()
    };
    assert_eq!(ids(&all[0]), ids(&all[1]));
    assert_eq!(ids(&all[0]), ids(&all[2]));
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
fn the_mean_has_the_smaller_width() {
    let (world, spec) = world();
    let root = world.path("").display().to_string();
    let dense = format!(
        "[{{name: tiny, source: \"file://{root}model\"}}, {{name: other, source: \"file://{root}other\", dimensions: 8}}]"
    );
    let rest = format!("{}  fusion: {{method: WeightedMean, candidates: Weighted}}\n", spec.rest);
    manifest(&world, &Spec { dense, rest, ..spec });
    finalized(run(&world));
    assert!(batches(&world).iter().flat_map(|batch| vectors(batch, "fused")).all(|vector| vector.len() == 8));
    assert_eq!(summary(&world)["rerank_run"]["candidate_fusion"], "Weighted");
}

/// The fallback of a stage of the result, and of the summary beside it.
fn fallback(world: &World, result: &FinalizeResult, stage: &str) -> Option<StageFallback> {
    let said = match stage {
        "dense" => result.dense_fallback,
        "sparse" => result.totals.sparse.as_ref().and_then(|stage| stage.fallback),
        _ => result.totals.rerank.as_ref().and_then(|stage| stage.fallback),
    };
    let whole = json(&world.revision().join("processing_summary.json"));
    let written = if stage == "dense" {
        whole["dense_run"]["fallbacks"][0].clone()
    } else {
        whole[format!("{stage}_run")]["fallback"].clone()
    };
    let reason = said.map(|said| said.reason.to_string());
    assert_eq!(written["reason"].as_str(), reason.as_deref(), "{stage}: {written}");
    said
}

/// Makes the words' vectors of a model overflow, where a token occurs.
fn overflow(model: &Path, token: &str) {
    let path = model.join("model.safetensors");
    let tokenizer = json(&model.join("tokenizer.json"));
    let id = tokenizer["model"]["vocab"][token].as_u64().expect(token) as usize;
    let mut tensors: BTreeMap<String, candle_core::Tensor> =
        candle_core::safetensors::load(&path, &candle_core::Device::Cpu).expect("weights").into_iter().collect();
    let name = "bert.embeddings.word_embeddings.weight";
    let mut rows: Vec<Vec<f32>> = tensors[name].to_vec2().expect("a matrix");
    rows[id].fill(3e38);
    tensors.insert(name.into(), candle_core::Tensor::new(rows, &candle_core::Device::Cpu).expect("a tensor"));
    candle_core::safetensors::save(&tensors.into_iter().collect(), path).expect("saved");
}

#[test]
fn a_stage_that_the_environment_switches_off_says_so() {
    for (variable, stage) in [("EMBEDDER_ENABLE_RERANK", "rerank"), ("EMBEDDER_ENABLE_SPARSE", "sparse")] {
        let (world, spec) = world();
        manifest(&world, &spec);
        let ended = run_with(&world, &[(variable, "false")], &[]);
        let result = finalized(ended);
        let found = fallback(&world, &result, stage).expect(stage);
        assert_eq!((found.reason, found.source), (FallbackReason::FeatureDisabled, FallbackSource::Toggle));
        let summary = summary(&world);
        assert_eq!(summary["feature_toggles"][stage], false);
        assert_eq!(summary["feature_toggles"]["sources"][stage], "env");
        assert_eq!(summary[format!("{stage}_run")]["executed"], false);
        // Nothing that did not run has numbers.
        assert_eq!(summary["rerank_run"]["pairs"] == 0, stage == "rerank");
    }
}

#[test]
fn a_stage_that_the_spec_switches_off_is_no_fallback() {
    let (world, spec) = world();
    let rest = format!("{}  toggles: {{rerank: false, sparse: false}}\n", spec.rest);
    manifest(&world, &Spec { rest, ..spec });
    let result = finalized(run(&world));
    assert!(result.totals.rerank.is_none() && result.totals.sparse.is_none(), "{result:?}");
    assert_eq!(summary(&world)["feature_toggles"]["sources"]["rerank"], "spec");
    assert!(
        summary(&world)["quality"]["lists"].as_array().is_some_and(|lists| lists.len() == 4),
        "judged all the same"
    );
}

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

#[test]
fn without_queries_and_headings_nothing_is_reranked() {
    let (world, spec) = world();
    manifest(&world, &Spec { rest: String::new(), ..spec });
    let result = finalized(run(&world));
    let found = fallback(&world, &result, "rerank").expect("a fallback");
    assert_eq!((found.reason, found.source), (FallbackReason::NoQueries, FallbackSource::Input));
}

#[test]
fn without_candidates_nothing_is_reranked() {
    let (world, spec) = world();
    let root = world.path("").display().to_string();
    let dense = format!("[{{name: tiny, source: \"file://{root}nowhere\", optional: true}}]");
    // Vectors without entries find nothing.
    let sparse = format!("[{{name: splade, source: \"file://{root}sparse\", threshold: 1000000}}]");
    manifest(&world, &Spec { dense, sparse, ..spec });
    let result = finalized(run(&world));
    let found = fallback(&world, &result, "rerank").expect("a fallback");
    assert_eq!((found.reason, found.source), (FallbackReason::NoCandidates, FallbackSource::Runtime));
    let found = fallback(&world, &result, "dense").expect("a fallback");
    assert_eq!((found.reason, found.source), (FallbackReason::ModelUnavailable, FallbackSource::Load));
}

#[test]
fn optional_models_that_are_not_there_are_fallbacks_and_required_ones_fail() {
    let (world, spec) = world();
    let missing = |text: &str, name: &str| text.replace(&format!("/{name}\""), "/nowhere\", optional: true");
    let changed = Spec {
        dense: missing(&spec.dense, "other"),
        sparse: missing(&spec.sparse, "sparse"),
        reranker: missing(&spec.reranker, "reranker"),
        rest: spec.rest.clone(),
    };
    manifest(&world, &changed);
    let ended = run(&world);
    let result = finalized(ended);
    for stage in ["dense", "sparse", "rerank"] {
        let found = fallback(&world, &result, stage).expect(stage);
        assert_eq!((found.reason, found.source), (FallbackReason::ModelUnavailable, FallbackSource::Load), "{stage}");
    }
    let summary = summary(&world);
    assert_eq!(summary["sparse_run"]["coverage"], 0.0);
    assert_eq!(summary["rerank_run"]["executed"], false);
    assert!(summary["rerank_run"].get("mean_top_score_after").is_none(), "no score of what did not run");
    assert!(summary["warnings"].to_string().contains("model other was left out"), "{}", summary["warnings"]);
    for (name, which) in [("other", "dense"), ("sparse", "sparse"), ("reranker", "reranker")] {
        let (world, spec) = super::pipeline::world();
        let gone = |text: &str| text.replace(&format!("/{name}\""), "/nowhere\"");
        let (dense, sparse, reranker) = (gone(&spec.dense), gone(&spec.sparse), gone(&spec.reranker));
        manifest(&world, &Spec { dense, sparse, reranker, ..spec });
        let failure = run(&world).failed(2, FailureReason::ModelNotFound);
        assert!(failure.message.contains("nowhere"), "{which}: {}", failure.message);
    }
}

#[test]
fn terms_of_the_metadata_stand_in_for_a_sparse_model_and_are_marked() {
    let (world, spec) = world();
    world.source("b.jsonl", r#"{"id": "a", "text": "before", "metadata": {"title": "the bridge", "page": 3}}"#);
    fs::remove_file(world.path("sparse/model.safetensors")).expect("removed");
    let sparse = spec.sparse.replace("topK", "optional: true, topK");
    manifest(&world, &Spec { sparse, ..spec });
    let result = finalized(run(&world));
    let found = fallback(&world, &result, "sparse").expect("a fallback");
    assert_eq!((found.reason, found.count), (FallbackReason::ModelUnavailable, 5));
    let batches = batches(&world);
    let sources: &StringArray = batches[0].column_by_name("splade_source").expect("sources").as_string();
    assert!(sources.iter().all(|source| source == Some("metadata")));
    let indices: &ListArray = batches[0].column_by_name("splade_indices").expect("indices").as_list();
    // Only the last chunk has metadata that says what it is about.
    assert_eq!((0..4).map(|row| indices.value(row).len()).sum::<usize>(), 0);
    assert!(indices.value(4).len() >= 2);
}

#[test]
fn a_row_that_the_sparse_model_cannot_make_is_the_only_one_that_falls_back() {
    let (world, spec) = world();
    world.source("b.jsonl", r#"{"id": "x", "text": "the bridge", "metadata": {"title": "engine"}}"#);
    overflow(&world.path("sparse"), "bridge");
    let optional = spec.sparse.replace("topK", "optional: true, topK");
    manifest(
        &world,
        &Spec { sparse: optional, rest: spec.rest.clone(), dense: spec.dense.clone(), reranker: spec.reranker.clone() },
    );
    let result = finalized(run(&world));
    let found = fallback(&world, &result, "sparse").expect("a fallback");
    assert_eq!(
        (found.reason, found.source, found.count),
        (FallbackReason::ExecutionFailed, FallbackSource::Runtime, 1)
    );
    let summary = summary(&world);
    assert_eq!((&summary["sparse_run"]["executed"], &summary["sparse_run"]["coverage"]), (&true.into(), &0.8.into()));
    let batches = batches(&world);
    let sources: &StringArray = batches[0].column_by_name("splade_source").expect("sources").as_string();
    let sources: Vec<Option<&str>> = sources.iter().collect();
    assert_eq!(sources, [Some("model"), Some("model"), Some("model"), Some("model"), Some("metadata")]);
    // Of a required model it is a failure.
    let (world, spec) = super::pipeline::world();
    world.source("b.jsonl", r#"{"id": "x", "text": "the bridge"}"#);
    overflow(&world.path("sparse"), "bridge");
    manifest(&world, &spec);
    let failure = run(&world).failed(3, FailureReason::InvalidVector);
    assert!(failure.message.contains("\"x\"") && failure.message.contains("splade"), "{}", failure.message);
}

#[test]
fn a_rerank_that_fails_while_it_runs_leaves_the_candidates() {
    let (world, spec) = world();
    queries(&world, r#"{"id": "q", "text": "bridge", "relevant": ["line-1"]}"#);
    overflow(&world.path("reranker"), "bridge");
    manifest(&world, &spec);
    let result = finalized(run(&world));
    let found = fallback(&world, &result, "rerank").expect("a fallback");
    assert_eq!((found.reason, found.source), (FallbackReason::ExecutionFailed, FallbackSource::Runtime));
    let rankings = rankings(&world);
    assert_eq!(rankings[0]["results"].as_array().map(Vec::len), Some(3));
    assert!(rankings[0]["results"][0].get("rank_before").is_none());
    let lists = summary(&world)["quality"]["lists"].as_array().expect("lists").clone();
    assert!(lists.iter().all(|list| list["stage"] != "reranked"));
}

#[test]
fn a_rerank_without_memory_falls_back_and_a_pass_without_memory_fails() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let manifest = runner::config::Manifest::load(&world.path("run.yaml")).expect("a manifest");
    let volumes = [format!("configmap/q={}", world.path("queries").display()).parse().expect("a volume")];
    let config = manifest.resolve(&volumes.into_iter().collect()).expect("resolved");
    fs::write(world.path("run.json"), config.to_json()).expect("written");
    let stage = |arguments: &[&str], ceiling: &str| {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--config", "run.json"]).env("EMBEDRUN_MEMORY_CEILING", ceiling);
        world.ended(command)
    };
    stage(&["plan"], "1Gi").succeeded();
    let embed = ["embed", "--shard", "0", "--gpu-count", "0"];
    let failure = stage(&embed, "1Mi").failed(4, FailureReason::OutOfMemory);
    assert!(failure.message.contains("model tiny"), "{}", failure.message);
    stage(&embed, "1Gi").succeeded();
    let result = finalized(stage(&["finalize"], "1Mi"));
    let found = fallback(&world, &result, "rerank").expect("a fallback");
    assert_eq!((found.reason, found.source), (FallbackReason::OutOfMemory, FallbackSource::Runtime));
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
        assert!(failure.message.contains("ndcg@10") && failure.message.contains("at least 1"), "{}", failure.message);
        assert_eq!(fs::read_to_string(world.path("out/current/docs")).expect("a pointer"), before);
    }
    manifest(&world, &gated("{metric: mrr, maximumDrop: 0.0}", "b"));
    finalized(run(&world));
    let after = fs::read_to_string(world.path("out/current/docs")).expect("a pointer");
    assert_ne!(after, before, "as good as before is good enough");
    let summary = json(&world.path("out/runs").join(after.trim()).join("docs/processing_summary.json"));
    assert_eq!(summary["gate"]["passed"], true);
    assert_eq!(summary["gate"]["previous"], summary["gate"]["value"]);
}

#[test]
fn bad_queries_are_refused_before_anything_is_embedded() {
    let (world, spec) = world();
    let gate = "  rerank: {queries: {configMap: {name: q, key: q.jsonl}}, gate: {metric: mrr, minimum: 0.1}}\n";
    let cases = [
        ("", FailureReason::InvalidRecord, 3, "has no queries"),
        (
            "{\"id\": \"1\", \"text\": \"a\"}\n{\"id\": \"1\", \"text\": \"b\"}",
            FailureReason::DuplicateId,
            3,
            "stands twice",
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
fn relevant_chunks_that_are_not_there_are_listed_and_counted() {
    let (world, spec) = world();
    queries(&world, r#"{"id": "q", "text": "two words", "relevant": ["line-1", "gone-1", "gone-2"]}"#);
    manifest(&world, &spec);
    finalized(run(&world));
    let summary = summary(&world);
    assert_eq!(summary["quality"]["unknown_relevant"], 2);
    assert!(summary["warnings"].to_string().contains("gone-1, gone-2"), "{}", summary["warnings"]);
    // They count as not found: the user says that they answer the query.
    let recall = |list: &Value| list["metrics"]["recall@10"].as_f64().unwrap_or(0.0);
    assert!(summary["quality"]["lists"].as_array().expect("lists").iter().all(|list| recall(list) <= 1.0));
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
