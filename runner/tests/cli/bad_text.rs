//! Texts that nobody would write: very long, invisible, without a token, or with a vector that overflows.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use candle_core::{Device, Tensor};
use crds::contract::{FailureReason, Stage};
use serde_json::json;

use crate::{
    common::{DIMENSIONS, MAX_TOKENS},
    world::{BINARY, World, json},
};

/// What a run of texts of 10 MB with the tiny model may take. Whole, they would take 4 GB: the tokenizers library holds some
/// forty bytes for each byte of a text while it normalises and splits it, and some five hundred for each of its tokens.
const MOST_KIB: u64 = 450 << 10;

fn chunks(world: &World, chunks: &[(&str, &str)]) {
    let lines: Vec<String> = chunks.iter().map(|(id, text)| json!({"id": id, "text": text}).to_string()).collect();
    world.source("a.jsonl", &lines.join("\n"));
}

#[test]
fn a_text_of_10_megabytes_is_cut_and_counted_in_bounded_memory() {
    let world = World::new();
    // Words of letters that the tiny tokenizer does not know, one token each: about as long as a real tokenizer's tokens.
    let words = "groß ruß ";
    let times = (10 << 20) / words.len();
    let signs = 8 << 20;
    chunks(&world, &[("long", &words.repeat(times)), ("short", "groß ruß"), ("signs", &"=".repeat(signs))]);
    let script = format!(
        "'{BINARY}' run -f run.yaml & child=$!
         while peak=$(grep VmHWM /proc/$child/status); do echo \"$peak\" > peak; sleep 0.01; done
         wait $child"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script]);
    world.ended(command).succeeded();

    let pass = &json(&world.revision().join("docs/processing_summary.json"))["dense_run"]["passes"][0];
    let lost = 2 * times + signs - 2 * (MAX_TOKENS - 2);
    assert_eq!((&pass["truncated_chunks"], &pass["tokens_lost"]), (&json!(2), &json!(lost)));
    let rows = world.rows("docs");
    assert_eq!(rows[0].text, words.repeat(times), "the text is the user's");
    assert_ne!(rows[0].vector, rows[1].vector);

    let peak = fs::read_to_string(world.path("peak")).expect("a peak");
    let kib: u64 = peak.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("VmHWM: N kB");
    println!("peak {} MiB", kib >> 10);
    assert!(kib > 10 << 10 && kib < MOST_KIB, "the peak is {kib} KiB, at most {MOST_KIB} are allowed");
}

#[test]
fn invisible_characters_stay_in_the_text() {
    let world = World::new();
    let texts = [
        ("zero", "zero\u{200b}width"),
        ("zero-plain", "zerowidth"),
        ("nul", "nul\u{0} bell\u{7}\u{1b}[31m"),
        ("nul-plain", "nul bell[31m"),
        ("mark", "\u{feff}marked\u{2060}"),
        ("mark-plain", "marked"),
        ("nothing", "\u{200b}\u{200d}"),
        ("nothing-else", "\u{1}\u{2}"),
    ];
    chunks(&world, &texts);
    world.run(&[]).succeeded();
    let rows = world.rows("docs");
    assert_eq!(rows.len(), texts.len());
    for (row, (id, text)) in rows.iter().zip(texts) {
        assert_eq!((row.id.as_str(), row.text.as_str()), (id, text));
    }
    for pair in rows.chunks(2) {
        let largest = pair[0].vector.iter().zip(&pair[1].vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-6, "{} and {} differ by {largest}", pair[0].id, pair[1].id);
    }
    assert_ne!(rows[0].vector, rows[2].vector);
}

#[test]
fn a_text_without_a_token_is_named_where_the_model_has_no_special_tokens() {
    let world = World::new();
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures/static-embedding");
    fs::remove_dir_all(world.path("model")).expect("removed");
    fs::create_dir(world.path("model")).expect("a folder");
    for file in ["modules.json", "model.safetensors", "tokenizer.json", "config_sentence_transformers.json"] {
        fs::copy(case.join(file), world.path("model").join(file)).expect(file);
    }
    chunks(&world, &[("one", "a text"), ("hollow", "\u{200b}"), ("two", "a text")]);
    let failure = world.run(&[]).failed(3, FailureReason::InvalidRecord);
    assert_eq!(failure.stage, Stage::Embed);
    for part in ["\"hollow\"", "model tiny", "has no token"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    assert!(!world.path("out/current").exists(), "readers are pointed to nothing");
    chunks(&world, &[("one", "a text"), ("two", "a text")]);
    fs::remove_dir_all(world.path("out")).expect("removed");
    world.run(&[]).succeeded();
}

#[test]
fn a_vector_that_overflows_names_model_and_chunk_and_exports_nothing() {
    let world = World::new();
    let weights: PathBuf = world.path("model/model.safetensors");
    let words = "embeddings.word_embeddings.weight";
    let mut tensors: HashMap<String, Tensor> = candle_core::safetensors::load(&weights, &Device::Cpu).expect("weights");
    let mut values = tensors[words].to_vec2::<f32>().expect("rows");
    // "z", behind four special tokens: its values are finite, the sum of two is not.
    values[4 + 2 * 25] = vec![3e38; DIMENSIONS];
    tensors.insert(words.into(), Tensor::new(values, &Device::Cpu).expect("a tensor"));
    candle_core::safetensors::save(&tensors, &weights).expect("weights");

    chunks(&world, &[("fine", "a b c"), ("broken", "x y z"), ("short", "a")]);
    let failure = world.run(&[]).failed(3, FailureReason::InvalidVector);
    assert_eq!(failure.stage, Stage::Embed);
    for part in ["\"broken\"", "model tiny", "is not finite"] {
        assert!(failure.message.contains(part), "{part}: {}", failure.message);
    }
    assert!(!world.path("out/current").exists(), "readers are pointed to nothing");
    assert!(world.files().keys().all(|file| !file.ends_with(".parquet")), "{:?}", world.files().keys());
}
