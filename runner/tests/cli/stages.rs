//! A world with a model for every stage, and what its runs leave.

use std::{fs, path::Path, process::Command};

use arrow_array::{Array, FixedSizeListArray, Float32Array, RecordBatch, cast::AsArray};
use crds::contract::{FinalizeResult, RunnerConfig, StageOutcome};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;

use crate::{
    common::write_tiny_bert,
    world::{BINARY, Ended, World, json},
};

/// What a manifest says of the stages, line by line below `spec`.
#[derive(Clone)]
pub struct Spec {
    pub dense: String,
    pub sparse: String,
    pub reranker: String,
    pub rest: String,
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

pub fn queries(world: &World, lines: &str) {
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
pub fn run_with(world: &World, variables: &[(&str, &str)], more: &[&str]) -> Ended {
    let mut command = Command::new(BINARY);
    command.args(["run", "-f", "run.yaml", "--volume", "configmap/q=queries"]).args(more);
    command.envs(variables.iter().copied());
    world.ended(command)
}

pub fn run(world: &World) -> Ended {
    run_with(world, &[], &[])
}

pub fn finalized(ended: Ended) -> FinalizeResult {
    match ended.succeeded().result.map(|result| result.outcome) {
        Some(StageOutcome::Finalized(result)) => result,
        other => panic!("not finalized: {other:?}"),
    }
}

pub fn summary(world: &World) -> Value {
    json(&world.revision().join("docs/processing_summary.json"))
}

pub fn rankings(world: &World) -> Vec<Value> {
    let text = fs::read_to_string(world.revision().join("docs/rankings.jsonl")).expect("rankings");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The rows of all shards.
pub fn batches(world: &World) -> Vec<RecordBatch> {
    let files = summary(world)["export_run"]["files"].as_array().expect("files").clone();
    let read = |file: &Value| {
        let file = fs::File::open(world.path("out").join(file["path"].as_str().expect("a path"))).expect("a file");
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
        reader.map(|batch| batch.expect("a batch")).collect::<Vec<_>>()
    };
    files.iter().flat_map(read).collect()
}

pub fn vectors(batch: &RecordBatch, name: &str) -> Vec<Vec<f32>> {
    let list: &FixedSizeListArray = batch.column_by_name(name).expect(name).as_fixed_size_list();
    let row = |row: usize| list.value(row).as_any().downcast_ref::<Float32Array>().expect("floats").values().to_vec();
    (0..list.len()).map(row).collect()
}

/// The configuration of the manifest, as a pod would get it.
pub fn config(world: &World) -> RunnerConfig {
    let manifest = runner::config::Manifest::load(&world.path("run.yaml")).expect("a manifest");
    let volumes = [format!("configmap/q={}", world.path("queries").display()).parse().expect("a volume")];
    manifest.resolve(&volumes.into_iter().collect()).expect("resolved")
}
