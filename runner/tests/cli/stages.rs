//! A world with a model for every stage, and what its runs leave.

use std::{fs, path::Path, process::Command};

use arrow_array::{
    Array, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, RecordBatch, StringArray,
    cast::AsArray,
};
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

/// The ids of the rows of all shards.
pub fn ids(world: &World) -> Vec<String> {
    strings(world, "id")
}

/// A column of strings of all shards.
pub fn strings(world: &World, name: &str) -> Vec<String> {
    let of_batch = |batch: &RecordBatch| {
        let texts: &StringArray = batch.column_by_name(name).expect(name).as_string();
        texts.iter().flatten().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    batches(world).iter().flat_map(of_batch).collect()
}

/// The vectors of all shards as a reader decodes them, by their precision: `F32`, `F16`, `Int8` or `Binary`.
pub fn decoded(world: &World, name: &str, precision: &str) -> Vec<Vec<f64>> {
    let of_batch = |batch: &RecordBatch| -> Vec<Vec<f64>> {
        let column = batch.column_by_name(name).expect(name);
        let bytes = || -> &FixedSizeBinaryArray { column.as_fixed_size_binary() };
        let row = |row: usize| -> Vec<f64> {
            match precision {
                "F32" => vectors(batch, name)[row].iter().copied().map(f64::from).collect(),
                "F16" => {
                    let values = column.as_fixed_size_list().value(row);
                    let values = values.as_any().downcast_ref::<Float16Array>().expect("half floats").clone();
                    values.values().iter().map(|value| value.to_f64()).collect()
                }
                "Int8" => {
                    let scales = batch.column_by_name(&format!("{name}_scale")).expect("scales");
                    let scales = scales.as_any().downcast_ref::<Float32Array>().expect("floats");
                    let restored = |byte: &u8| f64::from(byte.cast_signed()) * f64::from(scales.value(row));
                    bytes().value(row).iter().map(restored).collect()
                }
                _ => {
                    let sign = |bit: usize| bytes().value(row)[bit / 8] >> (7 - bit % 8) & 1 == 1;
                    (0..bytes().value_length() as usize * 8).map(|bit| if sign(bit) { 1.0 } else { -1.0 }).collect()
                }
            }
        };
        (0..batch.num_rows()).map(row).collect()
    };
    batches(world).iter().flat_map(of_batch).collect()
}

/// The similarity of two vectors, by its name in summaries.
pub fn similarity(name: &str, left: &[f64], right: &[f64]) -> f64 {
    assert_eq!(left.len(), right.len());
    let sum = |of: fn(f64, f64) -> f64| left.iter().zip(right).map(|(left, right)| of(*left, *right)).sum::<f64>();
    let dot = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(left, right)| left * right).sum::<f64>();
    match name {
        "cosine" => dot(left, right) / (dot(left, left) * dot(right, right)).sqrt(),
        "dot" => dot(left, right),
        "euclidean" => -sum(|left, right| (left - right) * (left - right)).sqrt(),
        "manhattan" => -sum(|left, right| (left - right).abs()),
        _ => panic!("{name}"),
    }
}

/// The ids and scores of rows, the nearest to the `question` first.
pub fn nearest(ids: &[String], rows: &[Vec<f64>], name: &str, question: &[f64]) -> Vec<(String, f64)> {
    let mut scored: Vec<(String, f64)> =
        ids.iter().zip(rows).map(|(id, row)| (id.clone(), similarity(name, row, question))).collect();
    scored.sort_by(|(_, left), (_, right)| right.total_cmp(left));
    scored
}

/// The ids and scores in a list of results or hits.
pub fn scored(results: &[Value]) -> Vec<(String, f64)> {
    let pair =
        |result: &Value| (result["id"].as_str().expect("an id").to_owned(), result["score"].as_f64().expect("a score"));
    results.iter().map(pair).collect()
}

/// Asserts that the ids and scores of a list are the first of those expected, up to rounding.
pub fn assert_ranked(actual: &[(String, f64)], expected: &[(String, f64)], what: &str) {
    assert!(!actual.is_empty() && actual.len() <= expected.len(), "{what}: {actual:?}");
    for ((id, score), (expected_id, expected_score)) in actual.iter().zip(expected) {
        let tolerance = 1e-4 * expected_score.abs().max(1.0);
        assert!((score - expected_score).abs() < tolerance, "{what}: {id} {score}, not {expected_id} {expected_score}");
        assert_eq!(id, expected_id, "{what}: {actual:?}, not {expected:?}");
    }
}

/// The configuration of the manifest, as a pod would get it.
pub fn config(world: &World) -> RunnerConfig {
    let manifest = runner::config::Manifest::load(&world.path("run.yaml")).expect("a manifest");
    let volumes = [format!("configmap/q={}", world.path("queries").display()).parse().expect("a volume")];
    manifest.resolve(&volumes.into_iter().collect()).expect("resolved")
}
