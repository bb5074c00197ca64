//! Every way to do less than was asked: the reason in the result, the summary, the metrics and the last lines.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use arrow_array::{Array, ListArray, StringArray, cast::AsArray};
use crds::{
    contract::{FailureReason, FinalizeResult, StageFallback},
    v1alpha1::{FallbackReason, FallbackSource},
};

use crate::{
    stages::{Spec, batches, config, finalized, manifest, queries, rankings, run, run_with, summary, world},
    world::{BINARY, World, json},
};

/// What a person on a terminal reads at the end.
fn last_lines(world: &World, result: &FinalizeResult) -> String {
    runner::run::outcome::complete(&config(world), result, false)
}

/// The fallback of a stage of the result, and of the summary beside it.
fn fallback(world: &World, result: &FinalizeResult, stage: &str) -> Option<StageFallback> {
    let said = match stage {
        "dense" => result.dense_fallback,
        "device" => result.device_fallback().map(|reason| StageFallback {
            reason,
            source: FallbackSource::Runtime,
            count: result.device_fallbacks,
        }),
        "sparse" => result.totals.sparse.as_ref().and_then(|stage| stage.fallback),
        _ => result.totals.rerank.as_ref().and_then(|stage| stage.fallback),
    };
    let whole = json(&world.revision().join("processing_summary.json"));
    let written = if stage == "dense" {
        whole["dense_run"]["fallbacks"][0].clone()
    } else if stage == "device" {
        serde_json::json!({"reason": whole["device_run"]["fallback_reason"]})
    } else {
        whole[format!("{stage}_run")]["fallback"].clone()
    };
    let reason = said.map(|said| said.reason.to_string());
    if let Some(reason) = &reason {
        let lines = last_lines(world, result);
        assert!(lines.contains(&format!("{stage} degraded: {reason}")), "{lines}");
    }
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
    let name = tensors.keys().find(|name| name.ends_with("word_embeddings.weight")).expect("words").clone();
    let mut rows: Vec<Vec<f32>> = tensors[&name].to_vec2().expect("a matrix");
    rows[id].fill(3e38);
    tensors.insert(name, candle_core::Tensor::new(rows, &candle_core::Device::Cpu).expect("a tensor"));
    candle_core::safetensors::save(&tensors.into_iter().collect(), path).expect("saved");
}

#[test]
fn a_stage_that_the_environment_switches_off_is_a_fallback() {
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
fn a_stage_that_the_spec_switches_off_is_not_a_fallback() {
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
fn missing_optional_models_are_fallbacks_and_missing_required_ones_fail() {
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
    assert!(summary["warnings"].to_string().contains("model other was skipped"), "{}", summary["warnings"]);
    for (name, which) in [("other", "dense"), ("sparse", "sparse"), ("reranker", "reranker")] {
        let (world, spec) = crate::stages::world();
        let gone = |text: &str| text.replace(&format!("/{name}\""), "/nowhere\"");
        let (dense, sparse, reranker) = (gone(&spec.dense), gone(&spec.sparse), gone(&spec.reranker));
        manifest(&world, &Spec { dense, sparse, reranker, ..spec });
        let failure = run(&world).failed(2, FailureReason::ModelNotFound);
        assert!(failure.message.contains("nowhere"), "{which}: {}", failure.message);
    }
}

#[test]
fn an_optional_model_that_fails_while_its_rows_are_written_leaves_no_trace_in_the_file() {
    let (world, spec) = world();
    world.source("b.jsonl", r#"{"id": "x", "text": "z"}"#);
    overflow(&world.path("other"), "z");
    let dense = spec.dense.replace("other\"}", "other\", optional: true}");
    manifest(&world, &Spec { dense, sparse: String::new(), ..spec });
    let result = finalized(run(&world));
    let found = fallback(&world, &result, "dense").expect("a fallback");
    assert_eq!((found.reason, found.source), (FallbackReason::ExecutionFailed, FallbackSource::Runtime));
    let batches = batches(&world);
    assert_eq!(batches[0].num_rows(), 5);
    assert!(batches[0].column_by_name("tiny").is_some());
    assert!(batches[0].column_by_name("other").is_none() && batches[0].column_by_name("fused").is_none());
    let data = |name: &&String| name.contains("shard") && name.ends_with(".parquet") && !name.contains("candidates");
    let files = world.files();
    assert_eq!(files.keys().filter(data).count(), 1, "{:?}", files.keys());
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
    let (world, spec) = crate::stages::world();
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
    fs::write(world.path("run.json"), config(&world).to_json()).expect("written");
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
fn a_missing_gpu_is_a_device_fallback() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    world.manifest_text(&text.replace("gpu: {count: 0}", "gpu: {required: false}"));
    let result = finalized(run(&world));
    let found = fallback(&world, &result, "device").expect("a fallback");
    // Of the shard and of the rerank.
    assert_eq!((found.reason, found.count), (FallbackReason::DeviceFallback, 2));
    let rerank = &summary(&world)["rerank_run"];
    assert_eq!((&rerank["device"], &rerank["device_fallback"]), (&"cpu".into(), &"DeviceFallback".into()));
}

#[test]
fn missing_required_gpus_are_counted() {
    let (world, spec) = world();
    manifest(&world, &spec);
    let text = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    world.manifest_text(&text.replace("gpu: {count: 0}", "gpu: {count: 2}"));
    let failure = run(&world).failed(2, FailureReason::DeviceUnavailable);
    assert!(failure.message.starts_with("the run requires 2 GPUs (spec.gpu.count"), "{}", failure.message);
}
