//! Every bad input: the exit code, a message that names the place, and nothing lost.

use std::{collections::HashMap, fs};

use candle_core::{DType, Device, Tensor};
use crds::contract::{FailureReason, Stage};

use crate::{
    common::write_tiny_bert,
    world::{Ended, World, json},
};

/// The failure of a run over one file of a source that is otherwise fine.
fn run_with(name: &str, text: &str) -> (World, Ended) {
    let world = World::new();
    world.ten_chunks().source(name, text);
    let ended = world.run(&[]);
    assert!(!world.path("out/current").exists(), "readers are pointed to nothing");
    (world, ended)
}

fn file_uri(world: &World, name: &str) -> String {
    format!("file://{}", world.path("source").join(name).display())
}

#[test]
fn a_chunk_file_that_is_not_json_is_named_with_line_and_column() {
    let (world, ended) = run_with("c.json", "[{\"text\": \"one\"},\n oops]");
    let failure = ended.failed(3, FailureReason::InvalidFile);
    assert_eq!(
        failure.message,
        format!("{}: not valid JSON: expected value at line 2 column 2", file_uri(&world, "c.json"))
    );
    assert_eq!(failure.stage, Stage::Plan);
}

#[test]
fn a_record_without_text_is_named_with_its_line_and_its_fields() {
    let (world, ended) = run_with("c.jsonl", "{\"text\": \"one\"}\n{\"content\": \"two\", \"id\": 2}\n");
    let message = ended.failed(3, FailureReason::InvalidRecord).message;
    assert_eq!(
        message,
        format!(
            "{}, line 2: no field \"text\" (the text); its fields: content, id; \
             set fields.text of the collection if the text has another name",
            file_uri(&world, "c.jsonl")
        )
    );
}

#[test]
fn a_record_without_words_is_skipped_and_counted() {
    let world = World::new();
    world.ten_chunks().source("c.jsonl", "{\"text\": \"\"}\n{\"text\": \" \\t \"}\n{\"text\": \"words\"}\n");
    world.run(&["--shard-size", "3"]).succeeded();
    assert_eq!(world.rows("docs").len(), 11);
    let summary = json(&world.revision().join("docs/processing_summary.json"));
    assert_eq!((&summary["chunk_count"], &summary["skipped_chunks"]), (&11.into(), &2.into()));
    let plan = json(&world.revision().join("plan.json"));
    let skipped: u64 = plan["shards"].as_array().expect("shards").iter().filter_map(|s| s["skipped"].as_u64()).sum();
    assert_eq!(skipped, 2);
}

#[test]
fn a_duplicate_id_is_named_with_both_locations() {
    let (world, ended) = run_with("c.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\", \"id\": \"line-3\"}\n");
    let message = ended.failed(3, FailureReason::DuplicateId).message;
    let (first, second) = (file_uri(&world, "b.jsonl"), file_uri(&world, "c.jsonl"));
    assert!(message.contains("\"line-3\""), "{message}");
    assert!(message.contains(&format!("first in {first}, line 4, again in {second}, line 2")), "{message}");
}

#[test]
fn an_empty_collection_is_named_with_its_folder_and_the_known_extensions() {
    let world = World::new();
    let message = world.run(&[]).failed(3, FailureReason::EmptyCollection).message;
    assert!(message.contains("\"docs\" is empty: no files in file://"), "{message}");
    world.source("a.csv", "text\n").source("b.docx", "");
    let message = world.run(&[]).failed(3, FailureReason::EmptyCollection).message;
    assert!(message.contains(".jsonl") && message.contains("has only a.csv, b.docx"), "{message}");
    world.source("c.jsonl", "{\"text\": \" \"}\n");
    let message = world.run(&[]).failed(3, FailureReason::EmptyCollection).message;
    assert!(message.contains("1 record(s), all without text"), "{message}");
}

#[test]
fn more_shards_than_a_job_can_have_are_rejected_with_the_field_to_change() {
    let world = World::new();
    world.source("a.jsonl", &"\"a\"\n".repeat(100_001));
    let message = world.plan(1).failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("spec.execution.shardSize 1 results in 100001 shards"), "{message}");
}

#[test]
fn a_missing_source_is_named() {
    let world = World::new();
    fs::remove_dir_all(world.path("source")).expect("removed");
    let message = world.run(&[]).failed(2, FailureReason::SourceNotFound).message;
    assert!(message.contains("collection \"docs\"") && message.contains("/source"), "{message}");
}

#[test]
fn an_unusable_model_is_named_and_committed_shards_stay() {
    let world = World::new();
    world.ten_chunks();
    world.plan(5).succeeded();
    world.embed(0).succeeded();
    let before = world.files();
    let weights = world.path("model/model.safetensors");

    let original = fs::read(&weights).expect("weights");
    fs::remove_file(&weights).expect("removed");
    let failure = world.embed(1).failed(2, FailureReason::InvalidModel);
    assert_eq!((failure.stage, failure.shard), (Stage::Embed, Some(1)));
    assert!(
        failure.message.contains("model tiny") && failure.message.contains("model.safetensors"),
        "{}",
        failure.message
    );

    fs::write(world.path("model/pytorch_model.bin"), "pickle").expect("a file");
    let message = world.embed(1).failed(2, FailureReason::InvalidModel).message;
    assert!(message.contains("pytorch_model.bin is a pickle"), "{message}");

    fs::write(&weights, &original[..original.len() / 2]).expect("a file");
    let message = world.embed(1).failed(2, FailureReason::InvalidModel).message;
    assert!(message.contains("model.safetensors"), "{message}");

    fs::write(&weights, &original).expect("a file");
    let config = fs::read_to_string(world.path("model/config.json")).expect("a config");
    fs::write(world.path("model/config.json"), config.replace("\"intermediate_size\":32", "\"intermediate_size\":64"))
        .expect("a file");
    let message = world.embed(1).failed(2, FailureReason::InvalidModel).message;
    assert!(message.contains("intermediate") && message.contains("64"), "{message}");

    fs::rename(world.path("model"), world.path("moved")).expect("moved");
    world.embed(1).failed(2, FailureReason::ModelNotFound);

    assert_eq!(world.files(), before);
    write_tiny_bert(&world.path("model"), 1);
    world.embed(1).succeeded();
    world.finalize().succeeded();
    assert_eq!(world.rows("docs").len(), 10);
}

#[test]
fn an_invalid_model_is_rejected_by_its_fault_and_nothing_is_exported() {
    type Case<'a> = (&'a dyn Fn(&World), &'a [&'a str]);
    fn replace(world: &World, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(world.path("model").join(file)).expect(file);
        assert!(text.contains(from), "{from} is not in {file}");
        fs::write(world.path("model").join(file), text.replace(from, to)).expect(file);
    }
    fn with_weights(world: &World, edit: impl FnOnce(&mut HashMap<String, Tensor>)) {
        let file = world.path("model/model.safetensors");
        let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).expect("weights");
        edit(&mut tensors);
        candle_core::safetensors::save(&tensors, file).expect("weights");
    }
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("a tensor");
    let add = |world: &World, name: &str, tensor: Tensor| {
        with_weights(world, |tensors| drop(tensors.insert(name.to_owned(), tensor)));
    };
    let cases: [Case; 8] = [
        (&|world| replace(world, "config.json", "\"bert\"", "\"t5\""), &["config.json", "\"t5\"", "modernbert, mpnet"]),
        (
            &|world| replace(world, "config.json", "\"num_hidden_layers\":1", "\"num_hidden_layers\":2"),
            &["model.safetensors", "encoder.layer.1."],
        ),
        (
            &|world| replace(world, "modules.json", "\"1_Pooling\"", "\"../1_Pooling\""),
            &["modules.json", "path", "../1_Pooling"],
        ),
        (
            &|world| replace(world, "tokenizer.json", "\"[SEP]\":3", "\"[SEP]\":9000"),
            &["tokenizer.json", "[SEP]", "id 9000", "76 tokens"],
        ),
        (&|world| add(world, "classifier.weight", ones(&[2, 16])), &["model.safetensors", "classifier.weight"]),
        (
            &|world| add(world, "encoder.layer.0.output.dense.bias", (ones(&[16]) * f64::NAN).expect("NaN")),
            &["model.safetensors", "encoder.layer.0.output.dense.bias", "NaN at index 0"],
        ),
        (
            &|world| add(world, "encoder.layer.0.output.dense.bias", ones(&[16]).to_dtype(DType::U8).expect("U8")),
            &["model.safetensors", "encoder.layer.0.output.dense.bias", "is U8"],
        ),
        (
            &|world| {
                fs::remove_file(world.path("model/model.safetensors")).expect("removed");
                let index = r#"{"weight_map": {"w": "model-00001-of-00002.safetensors"}}"#;
                fs::write(world.path("model/model.safetensors.index.json"), index).expect("an index");
            },
            &["model-00001-of-00002.safetensors", "missing"],
        ),
    ];
    for (spoil, named) in cases {
        let world = World::new();
        world.ten_chunks();
        spoil(&world);
        let ended = world.run(&[]);
        assert_eq!(ended.code, 2, "{named:?}: {}", ended.stderr);
        let failure = ended.failed(2, FailureReason::InvalidModel);
        // What the settings and the headers show fails the plan, a value of a tensor the first shard.
        assert!(matches!(failure.stage, Stage::Plan | Stage::Embed), "{}", failure.message);
        for part in [&["model tiny"], named].concat() {
            assert!(failure.message.contains(part), "{part}: {}", failure.message);
        }
        assert!(!world.path("out/current").exists(), "readers are pointed to nothing");
        assert!(world.files().keys().all(|file| !file.ends_with(".parquet")), "{:?}", world.files().keys());
    }
}

#[test]
fn a_source_that_changed_after_the_plan_is_an_error_of_its_shards_alone() {
    let world = World::new();
    world.ten_chunks();
    world.plan(4).succeeded();
    world.embed(0).succeeded();
    let before = world.files();
    let text = fs::read_to_string(world.path("source/b.jsonl")).expect("a file");
    world.source("b.jsonl", &text.replace("two words", "other words"));
    let failure = world.embed(1).failed(3, FailureReason::SourceChanged);
    assert_eq!(failure.shard, Some(1));
    for part in ["shard 1", "\"docs\"", "b.jsonl", "ids, texts or metadata differ", "spec.sourceRevision"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    fs::remove_file(world.path("source/b.jsonl")).expect("removed");
    let message = world.embed(1).failed(3, FailureReason::SourceChanged).message;
    assert!(message.contains("a file is missing in b.jsonl"), "{message}");
    world.source("b.jsonl", "{\"text\": \"one 0\", \"id\": \"line-0\"}\n");
    let message = world.embed(1).failed(3, FailureReason::SourceChanged).message;
    assert!(message.contains("4 chunks were planned, 1 exist"), "{message}");
    assert_eq!(world.files(), before);
    world.source("b.jsonl", &text);
    world.embed(1).succeeded();
}

#[test]
fn shards_that_are_missing_are_named() {
    let world = World::new();
    world.ten_chunks();
    world.plan(3).succeeded();
    world.embed(1).succeeded();
    let message = world.finalize().failed(75, FailureReason::ShardsMissing).message;
    assert!(message.contains("3 of 4 shards are not committed: 0, 2, 3"), "{message}");
    let failure = world.embed(9).failed(2, FailureReason::InvalidConfiguration);
    assert!(failure.message.contains("shard 9 does not exist: the plan has 4"), "{}", failure.message);
}

#[test]
fn a_missing_required_gpu_is_a_failure_and_a_missing_optional_one_a_fallback() {
    let world = World::new();
    world.ten_chunks();
    world.plan(5).succeeded();
    let embed = ["embed", "--config", "run.json", "--gpu-count", "1"];
    let message =
        world.embedrun(&[&embed[..], &["--shard", "0"]].concat()).failed(2, FailureReason::DeviceUnavailable).message;
    assert!(message.contains("spec.gpu.required") && message.contains("spec.gpu.count"), "{message}");
    for shard in ["0", "1"] {
        world.embedrun(&[&embed[..], &["--gpu-required", "false", "--shard", shard]].concat()).succeeded();
    }
    world.finalize().succeeded();
    let summary = json(&world.revision().join("processing_summary.json"));
    assert_eq!(
        summary["device_run"],
        serde_json::json!({"requested": "cuda", "used": ["cpu"], "fallback_reason": "DeviceFallback", "fallback_count": 2})
    );
}

#[test]
fn a_manifest_is_checked_before_anything_is_touched() {
    let world = World::new();
    world.ten_chunks();
    let manifest = fs::read_to_string(world.path("run.yaml")).expect("a manifest");
    let cases = [
        ("  gpu: {count: 0}", "  gpus: {count: 0}", "run.yaml: unknown field spec.gpus"),
        ("{name: tiny,", "{name: metadata,", "spec.models.dense[0].name: this name is a column of the output"),
        ("  gpu:", "  queue: {name: batch}\n  gpu:", "run.yaml: not implemented yet: spec.queue"),
        ("count: 0", "count: none", "spec.gpu.count"),
        ("kind: EmbeddingRun", "kind: Pod", "\"Pod\""),
    ];
    for (from, to, expected) in cases {
        world.manifest_text(&manifest.replace(from, to));
        let message = world.run(&[]).failed(2, FailureReason::InvalidConfiguration).message;
        assert!(message.contains(expected), "{to}: {message}");
    }
    world.manifest_text(&format!("{manifest}---\n{manifest}"));
    let message = world.run(&[]).failed(2, FailureReason::InvalidConfiguration).message;
    assert!(message.contains("holds 2 documents"), "{message}");
    assert!(!world.path("out").exists());
}

#[test]
fn a_tokenizer_on_which_its_library_panics_is_invalid_input_and_no_defect() {
    let world = World::new();
    world.ten_chunks();
    let path = world.path("model/tokenizer.json");
    let mut tokenizer = json(&path);
    // The class of BERT would build its normalizer anew.
    fs::write(world.path("model/tokenizer_config.json"), r#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#)
        .expect("a setting");
    // The first is no table; the only cell of the second points far outside, which the first text meets.
    for (table, code, reason) in
        [("AAAA", 2, FailureReason::InvalidModel), ("BAAAAPz///8=", 3, FailureReason::InvalidRecord)]
    {
        tokenizer["normalizer"] = serde_json::json!({"type": "Precompiled", "precompiled_charsmap": table});
        fs::write(&path, tokenizer.to_string()).expect("a tokenizer");
        let ended = world.run(&[]);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        let failure = ended.failed(code, reason);
        assert!(failure.message.contains("tokenizers library failed"), "{}", failure.message);
    }
}
