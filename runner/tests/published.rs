//! The figures that the publishers of real models give.
//!
//! The models are below `$EMBEDRUN_TEST_MODELS`, which `make test` fetches; without that variable these tests are left
//! out, and say so.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use candle_core::Device;
use runner::{
    model::{DenseModel, DenseOptions, Reranker, Side, SparseModel, SparseOptions},
    text::Tokens,
};

fn folder(name: &str) -> Option<PathBuf> {
    let Some(models) = std::env::var_os("EMBEDRUN_TEST_MODELS") else {
        // Not `eprintln!`: the test harness hides that of a test which passes.
        let left_out = format!("left out: EMBEDRUN_TEST_MODELS names no folder with {name}; `make test` sets it");
        writeln!(io::stderr(), "{left_out}").expect("stderr takes a line");
        return None;
    };
    Some(PathBuf::from(models).join(name))
}

fn close(found: f32, published: f32, tolerance: f32) {
    assert!((found - published).abs() <= tolerance, "{found}, published {published}");
}

#[test]
fn minilm_has_the_published_similarities() {
    let Some(folder) = folder("all-MiniLM-L6-v2") else { return };
    let model = DenseModel::load("minilm", &folder, &DenseOptions::default(), &Device::Cpu).expect("the model loads");
    let texts = [
        "How many people live in Berlin?",
        "What is the number of inhabitants of the German capital?",
        "Berlin has a population of 3.5 million registered inhabitants.",
        "The recipe needs two eggs and a cup of flour.",
    ];
    let tokens = texts.map(|text| model.encode(text, Side::Document).expect("tokens"));
    let vectors = model.embed(&tokens.iter().collect::<Vec<&Tokens>>()).expect("vectors");
    for (row, published) in [(1, 0.747), (2, 0.797), (3, 0.057)] {
        let similarity = vectors.row(0).iter().zip(vectors.row(row)).map(|(a, b)| a * b).sum::<f32>();
        close(similarity, published, 0.0005);
    }
}

#[test]
fn splade_has_the_published_dot_products() {
    let Some(folder) = folder("splade-tiny") else { return };
    let model = SparseModel::load("splade", &folder, SparseOptions::default(), &Device::Cpu).expect("the model loads");
    let texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    let tokens = texts.map(|text| model.encode(text).expect("tokens"));
    let vectors = model.embed(&tokens.iter().collect::<Vec<&Tokens>>()).expect("vectors");
    for (one, other, published) in
        [(0, 0, 39.725), (0, 1, 7.166), (1, 1, 27.026), (1, 2, 0.139), (0, 2, 0.0), (2, 2, 26.354)]
    {
        close(vectors[one].dot(&vectors[other]), published, 0.002);
    }
}

#[test]
fn the_cross_encoder_has_the_published_scores() {
    let Some(folder) = folder("ms-marco-MiniLM-L12-v2-dq") else { return };
    let model = Reranker::load("ce", &folder, None, &Device::Cpu).expect("the model loads");
    let query = "How many people live in Berlin?";
    let documents = [
        "Berlin has a population of 3,520,031 registered inhabitants in an area of 891.82 square kilometers.",
        "Berlin is well known for its museums.",
        "The recipe needs two eggs and a cup of flour.",
    ];
    let pairs = documents.map(|document| model.encode(query, document).expect("tokens"));
    let scores = model.score(&pairs.iter().collect::<Vec<&Tokens>>()).expect("scores");
    for (score, (published, tolerance)) in scores.iter().zip([(9.27, 0.01), (-3.93, 0.01), (-11.0, 0.5)]) {
        close(score.logit, published, tolerance);
        close(score.score, score.logit, 0.0);
    }
}
