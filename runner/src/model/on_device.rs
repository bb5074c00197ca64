//! Whole models by the kernels of a device, which run here by their emulation: the vectors, weights and logits are those
//! of the CPU in f32, up to the rounding of the type, for every architecture and head of the parity fixtures.

use std::{
    fs,
    path::{Path, PathBuf},
};

use candle_core::Device;
use crds::v1alpha1::Dtype;

use super::{CrossEncoder, DenseEncoder, DenseOptions, Side, SparseOptions, SpladeModel};
use crate::{ops::device::emulate, tokenizer::Tokens};

/// Texts of several lengths, two of which have the same.
const TEXTS: [&str; 6] = [
    "a",
    "Vectors of a search index.",
    "the quick brown fox jumps over the lazy dog and then rests in the shade of an old oak tree for a while",
    "ünïcödé, 漢字 and Ελληνικά",
    "search ready vectors",
    "vectors ready search",
];

/// The fixtures that hold a model for the task.
fn fixtures(task: &str) -> Vec<(String, PathBuf)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures");
    let mut found: Vec<(String, PathBuf)> = fs::read_dir(root)
        .expect("the fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|dir| dir.join("model.safetensors").exists())
        .filter(|dir| {
            let case = fs::read_to_string(dir.join("case.json")).expect("a case");
            case.contains(&format!("\"task\": \"{task}\""))
        })
        .map(|dir| (dir.file_name().expect("a name").to_string_lossy().into_owned(), dir))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "fixtures of {task}");
    found
}

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
}

/// The types of a device, and the least cosine to a vector of f32.
const TYPES: [(Dtype, f64); 3] = [(Dtype::F32, 0.999_999), (Dtype::F16, 0.9995), (Dtype::Bf16, 0.999)];

/// The least cosine that the reference reaches with the fixture in bfloat16: random weights amplify rounding.
fn of_reference(dir: &Path) -> Option<f64> {
    let case = fs::read_to_string(dir.join("case.json")).expect("a case");
    serde_json::from_str::<serde_json::Value>(&case).expect("a case")["bfloat16"].as_f64()
}

#[test]
fn dense_vectors_are_those_of_the_cpu() {
    for (name, dir) in fixtures("dense") {
        let load = |dtype| {
            let options = DenseOptions { dtype: Some(dtype), max_tokens: Some(96), ..DenseOptions::default() };
            DenseEncoder::load(&name, &dir, &options, &Device::Cpu).expect("a model")
        };
        let model = load(Dtype::F32);
        let tokens: Vec<Tokens> = TEXTS
            .iter()
            .filter_map(|text| model.encode(text, Side::Document).ok())
            .filter(|row| !row.ids.is_empty())
            .collect();
        let rows: Vec<&Tokens> = tokens.iter().collect();
        let expected = model.embed(&rows).expect("vectors");
        for (dtype, least) in TYPES {
            let least = if dtype == Dtype::Bf16 { of_reference(&dir).map_or(least, |of| of.min(least)) } else { least };
            emulate(|| {
                let model = load(dtype);
                let together = model.embed(&rows).expect("vectors");
                for (row, (found, expected)) in together.iter().zip(expected.iter()).enumerate() {
                    let similarity = cosine(found, expected);
                    assert!(similarity >= least, "{name} {dtype:?}, text {row}: cosine {similarity}");
                    if dtype == Dtype::F16 {
                        let alone = model.embed(&rows[row..=row]).expect("a vector");
                        let similarity = cosine(found, alone.row(0));
                        assert!(similarity >= 0.999_99, "{name}, text {row} alone: cosine {similarity}");
                    }
                }
            });
        }
    }
}

#[test]
fn sparse_weights_are_those_of_the_cpu() {
    for (name, dir) in fixtures("sparse") {
        let options = SparseOptions { max_tokens: Some(96), ..SparseOptions::default() };
        let load = || SpladeModel::load(&name, &dir, options, &Device::Cpu).expect("a model");
        let model = load();
        let tokens: Vec<Tokens> =
            TEXTS.iter().map(|text| model.encode(text, Side::Document).expect("tokens")).collect();
        let rows: Vec<&Tokens> = tokens.iter().collect();
        let expected = model.embed(&rows).expect("vectors");
        let found = emulate(|| load().embed(&rows)).expect("vectors");
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(!expected.indices.is_empty(), "{name}, text {row}");
            let similarity = found.dot(expected) / (found.dot(found) * expected.dot(expected)).sqrt();
            assert!(similarity >= 0.9995, "{name}, text {row}: cosine {similarity}");
            assert!(found.indices.is_sorted() && found.values.iter().all(|value| *value > 0.0));
        }
    }
}

#[test]
fn logits_are_those_of_the_cpu() {
    for (name, dir) in fixtures("rerank") {
        let load = || CrossEncoder::load(&name, &dir, Some(96), &Device::Cpu).expect("a model");
        let model = load();
        let tokens: Vec<Tokens> = TEXTS.iter().map(|text| model.encode("a query", text).expect("tokens")).collect();
        let rows: Vec<&Tokens> = tokens.iter().collect();
        let expected = model.score(&rows).expect("scores");
        let found = emulate(|| load().score(&rows)).expect("scores");
        // The rounding of f16 follows the largest logits of a model, not that of one pair.
        let scale = expected.iter().map(|score| score.logit.abs()).fold(1.0, f32::max);
        for (row, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = (found.logit - expected.logit).abs();
            assert!(difference <= 2e-2 * scale, "{name}, pair {row}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn a_model_that_was_saved_in_bfloat16_is_computed_in_it() {
    let fixture = fixtures("dense").into_iter().find(|(name, _)| name == "gemma3-mean").expect("a fixture").1;
    for (field, saved, expected) in
        [("dtype", "float32", Dtype::F16), ("dtype", "bfloat16", Dtype::Bf16), ("torch_dtype", "bfloat16", Dtype::Bf16)]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            fs::create_dir_all(dir.path().join(&folder)).expect("a folder");
            for entry in fs::read_dir(fixture.join(&folder)).expect("a folder").flatten() {
                let path = folder.join(entry.file_name());
                if entry.path().is_dir() {
                    folders.push(path);
                } else {
                    fs::copy(entry.path(), dir.path().join(path)).expect("a copy");
                }
            }
        }
        let file = dir.path().join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
        config.as_object_mut().expect("fields").remove("dtype");
        config[field] = saved.into();
        fs::write(&file, config.to_string()).expect("a file");
        let load = || DenseEncoder::load("m", dir.path(), &DenseOptions::default(), &Device::Cpu).expect("a model");
        assert_eq!(emulate(|| load().dtype()), expected, "{field} {saved}");
        assert_eq!(load().dtype(), Dtype::F32, "a CPU computes in f32");
    }
}
