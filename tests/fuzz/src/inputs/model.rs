//! The files of a model's folder: one of them is the input, the others are those of a tiny BERT.

#[path = "../../../../runner/tests/common/mod.rs"]
mod tiny;

use std::{
    fs, panic,
    path::{Path, PathBuf},
    sync::{LazyLock, Once},
};

use candle_core::Device;
use runner::{
    model::{DenseEncoder, DenseOptions, Side},
    process::contained::is_contained,
};

use super::folder;

/// Settings of a model, as far as a folder may have them.
const SETTINGS: [&str; 8] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

/// The weights.
pub fn safetensors(data: &[u8]) {
    with("model.safetensors", data);
}

/// The tokenizer.
pub fn tokenizer(data: &[u8]) {
    with("tokenizer.json", data);
}

/// One of the settings: the first line names the file, the rest is its content.
pub fn model_json(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let (name, content) = (&data[..end], &data[end + 1..]);
    if let Some(name) = SETTINGS.iter().find(|setting| setting.as_bytes() == name) {
        with(name, content);
    }
}

/// The folder of the tiny model.
pub fn folder_of_model() -> &'static Path {
    static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
        let model = folder().join("model");
        tiny::write_tiny_bert(&model, 1);
        model
    });
    &MODEL
}

/// A file with another content, until this value is dropped: a panic must not leave it to the next input.
struct Replaced {
    path: PathBuf,
    own: Option<Vec<u8>>,
}

impl Replaced {
    fn new(path: PathBuf, content: &[u8]) -> Self {
        let own = fs::read(&path).ok();
        fs::write(&path, content).expect("a file");
        Self { path, own }
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        match &self.own {
            Some(own) => fs::write(&self.path, own).expect("a file"),
            None => fs::remove_file(&self.path).expect("a file"),
        }
    }
}

/// Lets the hook of the fuzzer, or of the test, pass over the panics of a library that the runner makes errors of.
fn heed_contained_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !is_contained() {
                hook(info);
            }
        }));
    });
}

/// Loads the model with another content of a file, and computes a vector if it loads.
fn with(file: &str, content: &[u8]) {
    heed_contained_panics();
    let model = folder_of_model();
    let replaced = Replaced::new(model.join(file), content);
    let loaded = DenseEncoder::load("tiny", model, &DenseOptions::default(), &Device::Cpu);
    drop(replaced);
    match loaded {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(encoder) => {
            if let Ok(tokens) = encoder.encode("a text of five words", Side::Document) {
                let _ = encoder.embed(&[&tokens]);
            }
        }
    }
}
