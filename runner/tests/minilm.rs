//! all-MiniLM-L6-v2 gives the vectors that its publishers' code gives.
//!
//! The model is read from `$EMBEDRUN_TEST_MODELS/all-MiniLM-L6-v2`, which `make test` fetches; without that variable
//! these tests are left out, and say so.

use std::{
    convert::Infallible,
    fs,
    io::{self, Write},
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
};

use candle_core::Device;
use runner::{
    batch::{Rows, TokenBudget},
    model::{DenseModel, DenseOptions},
    stage::dense::{PassOptions, PassRecord, run},
    text::Tokens,
};
use serde::Deserialize;

/// What a chunk's vector may deviate from the reference and from itself in another batch.
const SAME: f64 = 0.999_99;

/// One line of `minilm_200.jsonl`.
#[derive(Deserialize)]
struct Reference {
    text: String,
    tokens: usize,
    lost: usize,
}

fn minilm() -> Option<DenseModel> {
    let Some(models) = std::env::var_os("EMBEDRUN_TEST_MODELS") else {
        // Not `eprintln!`: the test harness hides that of a test which passes.
        let left_out = "left out: EMBEDRUN_TEST_MODELS names no folder with all-MiniLM-L6-v2; `make test` sets it";
        writeln!(io::stderr(), "{left_out}").expect("stderr takes a line");
        return None;
    };
    let folder = PathBuf::from(models).join("all-MiniLM-L6-v2");
    Some(DenseModel::load("minilm", &folder, &DenseOptions::default(), &Device::Cpu).expect("the model loads"))
}

fn references() -> (Vec<Reference>, Rows) {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures");
    let lines = fs::read_to_string(fixtures.join("minilm_200.jsonl")).expect("the reference texts");
    let texts = lines.split_terminator('\n').map(|line| serde_json::from_str(line).expect("a reference text"));
    let tensors = candle_core::safetensors::load(fixtures.join("minilm_200.safetensors"), &Device::Cpu);
    let vectors = &tensors.expect("the reference vectors")["vectors"];
    let (_, dimensions) = vectors.dims2().expect("rows of vectors");
    let values = vectors.flatten_all().and_then(|values| values.to_vec1()).expect("f32");
    (texts.collect(), Rows::new(dimensions, values))
}

fn embed(model: &DenseModel, texts: &[&str], window: usize, budget: usize) -> (Rows, PassRecord) {
    let options = PassOptions {
        window: NonZeroUsize::new(window).expect("a window"),
        batch: TokenBudget(budget),
        tokenizer_threads: NonZeroUsize::MIN,
        cancelled: Arc::default(),
    };
    let mut values = Vec::new();
    let record = run(
        model,
        texts.iter(),
        &options,
        |_| (),
        |_, rows| {
            values.extend(rows.into_values());
            Ok::<_, Infallible>(())
        },
    );
    (Rows::new(model.dimensions(), values), record.expect("the pass succeeds"))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn the_published_similarities_are_met() {
    let Some(model) = minilm() else { return };
    let texts = [
        "How many people live in Berlin?",
        "What is the number of inhabitants of the German capital?",
        "Berlin has a population of 3.5 million registered inhabitants.",
        "The recipe needs two eggs and a cup of flour.",
    ];
    let (vectors, _) = embed(&model, &texts, 4, 4096);
    for (row, published) in [(1, 0.747), (2, 0.797), (3, 0.057)] {
        let similarity = cosine(vectors.row(0), vectors.row(row));
        assert!((similarity - published).abs() < 0.0005, "{:?}: {similarity}, published {published}", texts[row]);
    }
}

#[test]
fn every_text_has_the_vector_and_the_token_counts_of_the_reference() {
    let Some(model) = minilm() else { return };
    let (references, expected) = references();
    assert_eq!(references.len(), 200);
    let texts: Vec<&str> = references.iter().map(|reference| reference.text.as_str()).collect();
    let (vectors, record) = embed(&model, &texts, 64, 2048);

    assert_eq!(vectors.len(), expected.len());
    let mut largest = 0f32;
    let mut worst = 1f64;
    for (row, reference) in references.iter().enumerate() {
        let similarity = cosine(vectors.row(row), expected.row(row));
        assert!(similarity >= SAME, "row {row} {:?}: cosine {similarity}", reference.text);
        worst = worst.min(similarity);
        let differences = vectors.row(row).iter().zip(expected.row(row)).map(|(a, b)| (a - b).abs());
        largest = differences.fold(largest, f32::max);
        let tokens = model.tokenizer().encode(&reference.text).expect("tokens");
        assert_eq!((tokens.ids.len(), tokens.lost), (reference.tokens, reference.lost), "row {row}");
    }
    println!("lowest cosine {worst}, largest difference of a value {largest}");

    let sum = |count: fn(&Reference) -> usize| references.iter().map(count).sum::<usize>() as u64;
    assert_eq!(record.chunks, 200);
    assert_eq!(record.tokens, sum(|reference| reference.tokens));
    assert_eq!(record.tokens_lost, sum(|reference| reference.lost));
    assert_eq!(record.truncated_chunks, sum(|reference| usize::from(reference.lost > 0)));
    assert!(record.truncated_chunks > 0, "some of the texts are over-long");
}

#[test]
fn a_text_alone_and_in_a_batch_of_any_lengths_has_one_vector() {
    let Some(model) = minilm() else { return };
    let encode = |text: &str| model.tokenizer().encode(text).expect("tokens");
    let short = encode("The night train waits for the harbour at dawn.");
    let other = encode("The night baker reads for the harbour in rain.");
    let long = encode(&"A retired pilot photographs the timetable. ".repeat(40));
    assert_eq!(short.ids.len(), other.ids.len(), "the second batch is one of equal lengths");
    let alone = model.embed(&[&short]).expect("a vector");
    let batches: [&[&Tokens]; 3] = [&[&short, &long], &[&short, &other, &other], &[&short, &short]];
    for batch in batches {
        let similarity = cosine(alone.row(0), model.embed(batch).expect("vectors").row(0));
        assert!(similarity >= SAME, "batch of {}: cosine {similarity}", batch.len());
    }
}
