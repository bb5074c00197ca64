//! `embedrun search`: every stored form by every similarity, as the published revision was made, and what it refuses.

use std::{fs, path::Path, sync::Arc};

use arrow_array::{ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Int8Array, RecordBatch, cast::AsArray};
use arrow_schema::{DataType, Field};
use crds::contract::FailureReason;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    file::{metadata::KeyValue, properties::WriterProperties},
};
use serde_json::{Value, json};

use crate::{
    common::write_tiny_bert,
    stages::{assert_ranked, decoded, ids, nearest, queries, rankings, run_with, scored, strings, summary},
    world::{World, json as read_json},
};

/// The text of a chunk: the vector of the question is that of the chunk, because the model has no prompts.
const QUESTION: &str = "third text of the file";

/// The models of a manifest, each a flow mapping without its source.
fn models(world: &World, models: &[&str]) {
    let root = world.path("");
    let root = root.display();
    let models: Vec<String> =
        models.iter().map(|model| format!("      - {{source: \"file://{root}model\", {model}}}\n")).collect();
    world.manifest_text(&format!(
        "apiVersion: embedrun.dev/v1alpha1\nkind: EmbeddingRun\nmetadata: {{name: handbook}}\nspec:\n  collections:\n    \
         - {{name: docs, source: {{hostPath: {{path: {root}source}}}}}}\n  models:\n    dense:\n{}  \
         output: {{hostPath: {{path: {root}out}}}}\n  gpu: {{count: 0}}\n",
        models.concat()
    ));
}

/// A world whose model keeps the lengths of its vectors and names a similarity.
pub fn world_of(similarity: &str) -> World {
    let world = World::new();
    world.ten_chunks();
    without_normalisation(&world.path("model"), similarity);
    world
}

fn without_normalisation(model: &Path, similarity: &str) {
    let modules = read_json(&model.join("modules.json"));
    let modules: Vec<Value> = modules.as_array().expect("modules")[..2].to_vec();
    fs::write(model.join("modules.json"), json!(modules).to_string()).expect("written");
    let config = json!({"similarity_fn_name": similarity});
    fs::write(model.join("config_sentence_transformers.json"), config.to_string()).expect("written");
}

fn search(world: &World, model: &str, count: usize) -> Vec<(String, f64)> {
    let count = count.to_string();
    let ended = world.embedrun(&["search", "-f", "run.yaml", "-m", model, "-k", &count, "--json", QUESTION]);
    let hits: Vec<Value> =
        ended.succeeded().stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    scored(&hits)
}

#[test]
fn every_stored_form_is_searched() {
    let mut rankings = Vec::new();
    for similarity in ["cosine", "dot", "euclidean", "manhattan"] {
        let world = world_of(similarity);
        models(
            &world,
            &[
                "name: full",
                "name: half, precision: F16",
                "name: eight, precision: Int8",
                "name: signs, precision: Binary",
            ],
        );
        world.run(&["--shard-size", "4"]).succeeded();
        let ids = ids(&world);
        let full = decoded(&world, "full", "F32");
        let texts = texts(&world);
        let question = &full[texts.iter().position(|text| text == QUESTION).expect("the text")];
        for (model, precision) in [("full", "F32"), ("half", "F16"), ("eight", "Int8"), ("signs", "Binary")] {
            let expected = nearest(&ids, &decoded(&world, model, precision), similarity, question);
            let found = search(&world, model, 10);
            assert_eq!(found.len(), 10);
            assert_ranked(&found, &expected, &format!("{model} by {similarity}"));
            assert_eq!(search(&world, model, 3), found[..3], "{model} by {similarity}");
            rankings.push(found.into_iter().map(|(id, score)| (id, score.to_bits())).collect::<Vec<_>>());
        }
        let summary = read_json(&world.revision().join("docs/processing_summary.json"));
        let passes = summary["dense_run"]["passes"].as_array().expect("passes");
        assert!(passes.iter().all(|pass| pass["similarity"] == similarity), "{passes:?}");
    }
    // Each of them has scores of its own, so that no form or similarity is read as another.
    let all = rankings.len();
    rankings.sort();
    rankings.dedup();
    assert_eq!(rankings.len(), all);
}

fn texts(world: &World) -> Vec<String> {
    strings(world, "text")
}

#[test]
fn a_question_is_embedded_as_the_published_chunks_were() {
    let world = World::new();
    world.ten_chunks();
    let published = "name: m, dimensions: 8, pooling: Max, maxTokens: 12, prompts: {query: \"zz \", document: \"\"}";
    models(&world, &[published]);
    world.run(&[]).succeeded();
    let expected = search(&world, "m", 10);
    assert!(expected[0].1 > expected[9].1 && expected[9].1 > -1.0, "{expected:?}");
    // What the manifest says now is not what made the vectors.
    for changed in [
        "name: m",
        "name: m, dimensions: 16, pooling: Max, maxTokens: 12, prompts: {query: \"zz \", document: \"\"}",
        "name: m, dimensions: 8, pooling: Cls, maxTokens: 3, prompts: {query: \"other \"}, precision: Int8, dtype: Int8",
    ] {
        models(&world, &[changed]);
        assert_eq!(search(&world, "m", 10), expected, "{changed}");
    }
}

#[test]
fn another_model_or_tokenizer_is_refused_by_name() {
    let world = World::new();
    world.ten_chunks();
    models(&world, &["name: m"]);
    world.run(&[]).succeeded();
    let refused = |words: &[&str]| {
        let ended = world.embedrun(&["search", "-f", "run.yaml", QUESTION]);
        assert_eq!((ended.code, &ended.stdout[..]), (2, ""), "{}", ended.stderr);
        for word in words {
            assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
        }
    };
    let tokenizer = world.path("model/tokenizer.json");
    let original = fs::read_to_string(&tokenizer).expect("a tokenizer");
    let cased = original.replacen("\"lowercase\":true", "\"lowercase\":false", 1);
    assert_ne!(cased, original);
    fs::write(&tokenizer, cased).expect("written");
    refused(&["model m", "sha256", "embed again"]);
    fs::write(&tokenizer, original).expect("written");
    write_tiny_bert(&world.path("model"), 2);
    refused(&["model m", "model sha256", "embed again"]);
}

#[test]
fn a_file_that_was_made_otherwise_is_refused_by_name() {
    let world = World::new();
    world.ten_chunks();
    models(&world, &["name: m"]);
    world.run(&[]).succeeded();
    let file = |world: &World| {
        let revision = world.path("out/runs").join(world.pointer("docs").revision.as_str());
        let summary = read_json(&revision.join("docs/processing_summary.json"));
        world.path("out").join(summary["export_run"]["files"][0]["path"].as_str().expect("a path"))
    };
    let first = file(&world);
    models(&world, &["name: m, dimensions: 8"]);
    world.run(&[]).succeeded();
    let second = file(&world);
    assert_ne!(first, second);
    fs::copy(&first, &second).expect("copied");
    let ended = world.embedrun(&["search", "-f", "run.yaml", QUESTION]);
    assert_eq!((ended.code, &ended.stdout[..]), (3, ""), "{}", ended.stderr);
    for word in ["cannot search", "is of collection \"docs\" of revision", "embed again"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}

#[test]
fn candidates_and_quality_are_by_the_similarity_of_the_model_in_the_stored_form() {
    let mut all = Vec::new();
    for (similarity, precision) in [
        ("cosine", "F32"),
        ("dot", "F32"),
        ("euclidean", "F32"),
        ("manhattan", "F32"),
        ("dot", "F16"),
        ("dot", "Int8"),
        ("dot", "Binary"),
    ] {
        let world = world_of(similarity);
        fs::create_dir(world.path("queries")).expect("a folder");
        queries(&world, &format!("{{\"id\": \"q\", \"text\": \"{QUESTION}\", \"relevant\": [\"line-1\"]}}"));
        // The candidates are those of the first model; the second has the vector of the question.
        models(&world, &[&format!("name: stored, precision: {precision}"), "name: full"]);
        let manifest = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
        let rest = "  fusion: {method: None}\n  rerank: {candidates: 10, topK: 10, queries: {configMap: {name: q, key: \
                    q.jsonl}}}\n";
        world.manifest_text(&format!("{manifest}{rest}"));
        run_with(&world, &[], &["--shard-size", "4"]).succeeded();
        let (ids, full) = (ids(&world), decoded(&world, "full", "F32"));
        let question = &full[texts(&world).iter().position(|text| text == QUESTION).expect("the text")];
        let expected = nearest(&ids, &decoded(&world, "stored", precision), similarity, question);
        let found = scored(rankings(&world)[0]["results"].as_array().expect("results"));
        assert_eq!(found.len(), 10);
        assert_ranked(&found, &expected, &format!("{precision} by {similarity}"));
        let rank = expected.iter().position(|(id, _)| id == "line-1").expect("ranked") + 1;
        let list = summary(&world)["quality"]["lists"][0].clone();
        assert_eq!((&list["stage"], &list["model"]), (&"dense".into(), &"stored".into()));
        assert!((list["metrics"]["mrr"].as_f64().expect("a value") - 1.0 / rank as f64).abs() < 1e-9, "{list}");
        all.push(found.into_iter().map(|(id, score)| (id, score.to_bits())).collect::<Vec<_>>());
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "each similarity and form has scores of its own");
}

#[test]
fn the_fused_vector_of_models_for_dot_products_is_by_cosine_with_a_warning() {
    let world = world_of("dot");
    models(&world, &["name: a", "name: b"]);
    world.run(&[]).succeeded();
    let summary = summary(&world);
    assert_eq!(
        (&summary["fusion_run"]["similarity"], &summary["fusion_run"]["precision"]),
        (&"cosine".into(), &"F32".into())
    );
    let warnings = summary["warnings"].to_string();
    assert!(warnings.contains("by cosine") && warnings.contains("a (dot), b (dot)"), "{warnings}");
}

#[test]
fn an_unknown_similarity_is_rejected_by_file_field_and_value() {
    let world = world_of("hamming");
    models(&world, &["name: m"]);
    let failure = world.run(&[]).failed(2, FailureReason::InvalidModel);
    for part in ["config_sentence_transformers.json", "similarity_fn_name", "hamming", "dot"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
}

/// Writes a file of vectors again: its batches changed, and this entry in its footer.
fn rewrite(file: &Path, change: impl Fn(RecordBatch) -> RecordBatch, footer: Option<Value>) {
    let opened = fs::File::open(file).expect("a file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(opened).expect("Parquet").build().expect("a reader");
    let batches: Vec<RecordBatch> = reader.map(|batch| change(batch.expect("a batch"))).collect();
    let entries = footer.map(|footer| vec![KeyValue::new("embedrun".to_owned(), footer.to_string())]);
    let properties = WriterProperties::builder().set_key_value_metadata(entries).build();
    let to = fs::File::create(file).expect("a file");
    let mut writer = ArrowWriter::try_new(to, batches[0].schema(), Some(properties)).expect("a writer");
    for batch in &batches {
        writer.write(batch).expect("written");
    }
    writer.close().expect("closed");
}

/// The column `m` as a list of 8-bit integers in place of a binary.
fn as_list(batch: RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let column: ArrayRef = if field.name() == "m" {
            let bytes: &FixedSizeBinaryArray = column.as_fixed_size_binary();
            let values: Vec<i8> = bytes.iter().flatten().flatten().map(|byte| byte.cast_signed()).collect();
            let element = Arc::new(Field::new("element", DataType::Int8, false));
            let values = Arc::new(Int8Array::from(values));
            Arc::new(FixedSizeListArray::try_new(element, bytes.value_length(), values, None).expect("a list"))
        } else {
            column.clone()
        };
        (field.name().clone(), column)
    });
    RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).expect("a batch")
}

#[test]
fn results_of_an_earlier_release_are_searched_and_those_of_a_later_one_are_named() {
    let world = World::new();
    world.ten_chunks();
    models(&world, &["name: m, precision: Int8"]);
    world.run(&[]).succeeded();
    let expected = search(&world, "m", 10);
    // As it was before: lists of integers without a footer, and a record with fewer settings.
    let path = world.revision().join("docs/processing_summary.json");
    let mut summary = read_json(&path);
    summary["schema_version"] = "5.2".into();
    let pass = summary["dense_run"]["passes"][0].as_object_mut().expect("a pass");
    for field in ["tokenizer_sha256", "similarity"] {
        assert!(pass.remove(field).is_some(), "{field}");
    }
    fs::write(&path, summary.to_string()).expect("written");
    let file = world.path("out").join(summary["export_run"]["files"][0]["path"].as_str().expect("a path"));
    rewrite(&file, as_list, None);
    assert_eq!(search(&world, "m", 10), expected);
    rewrite(&file, |batch| batch, Some(json!({"version": 2, "columns": "other"})));
    let ended = world.embedrun(&["search", "-f", "run.yaml", QUESTION]);
    assert_eq!((ended.code, &ended.stdout[..]), (3, ""), "{}", ended.stderr);
    for word in ["its footer has version 2", "this release reads 1"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}
