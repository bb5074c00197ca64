//! A model folder to spoil, and what is asked of the model in it.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use crds::contract::{ExitCode, FailureReason};
use runner::model::{DenseEncoder, DenseOptions, ModelError, Side};
use serde_json::Value;
use tempfile::TempDir;

use crate::tiny;

pub const WEIGHTS: &str = "model.safetensors";
pub const WORDS: &str = "embeddings.word_embeddings.weight";

/// The cases of the parity test, whose folders are models that the reference has saved.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/fixtures")
}

/// A model folder that nobody else uses.
pub struct Folder(TempDir);

impl Folder {
    /// The tiny BERT.
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        tiny::write_tiny_bert(folder.0.path(), 1);
        folder
    }

    /// The model of a parity case.
    pub fn of_case(name: &str) -> Self {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir_all(to).expect("a folder");
            for entry in fs::read_dir(from).expect("a folder").flatten() {
                let (from, to) = (entry.path(), to.join(entry.file_name()));
                if from.is_dir() { copy(&from, &to) } else { fs::copy(from, to).map(|_| ()).expect("a copy") }
            }
        }
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        copy(&fixtures().join(name), folder.0.path());
        folder
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).expect(file);
    }

    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(file), content).expect(file);
    }

    pub fn edit(&self, file: &str, edit: impl FnOnce(&mut Value)) {
        let mut json = serde_json::from_slice(&fs::read(self.path(file)).expect(file)).expect(file);
        edit(&mut json);
        self.write(file, json.to_string());
    }

    pub fn weights(&self) -> HashMap<String, Tensor> {
        candle_core::safetensors::load(self.path(WEIGHTS), &Device::Cpu).expect("weights")
    }

    pub fn edit_weights(&self, edit: impl FnOnce(&mut HashMap<String, Tensor>)) {
        let mut tensors = self.weights();
        edit(&mut tensors);
        candle_core::safetensors::save(&tensors, self.path(WEIGHTS)).expect("weights");
    }

    /// Sets values of a tensor, by their place in it, row-major.
    pub fn set(&self, tensor: &str, places: impl IntoIterator<Item = usize>, value: f32) {
        self.edit_weights(|tensors| {
            let shape = tensors[tensor].dims().to_vec();
            let mut values = tensors[tensor].flatten_all().and_then(|flat| flat.to_vec1::<f32>()).expect("values");
            places.into_iter().for_each(|at| values[at] = value);
            tensors.insert(tensor.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor"));
        });
    }

    /// Gives a tensor another element type.
    pub fn retype(&self, tensor: &str, dtype: DType) {
        self.edit_weights(|tensors| {
            let retyped = tensors[tensor].to_dtype(dtype).expect("another type");
            tensors.insert(tensor.to_owned(), retyped);
        });
    }

    /// Adds tensors of ones.
    pub fn add(&self, tensors: &[(&str, &[usize])]) {
        self.edit_weights(|all| {
            for (name, shape) in tensors {
                all.insert((*name).to_owned(), Tensor::ones(*shape, DType::F32, &Device::Cpu).expect("a tensor"));
            }
        });
    }

    /// Spreads the weights over the files `part-0.safetensors` to `part-2.safetensors`, with an index.
    pub fn shard(&self) {
        let mut parts = [const { Vec::new() }; 3];
        let mut names: Vec<_> = self.weights().into_iter().collect();
        names.sort_by(|one, other| one.0.cmp(&other.0));
        (0..).zip(names).for_each(|(at, tensor): (usize, _)| parts[at % 3].push(tensor));
        let mut map = serde_json::Map::new();
        for (part, tensors) in parts.into_iter().enumerate() {
            let file = format!("part-{part}.safetensors");
            map.extend(tensors.iter().map(|(name, _)| (name.clone(), Value::from(file.clone()))));
            let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
            candle_core::safetensors::save(&tensors, self.path(&file)).expect("a part");
        }
        self.write("model.safetensors.index.json", serde_json::json!({"weight_map": map}).to_string());
        self.remove(WEIGHTS);
    }

    pub fn load_with(&self, options: &DenseOptions) -> Result<DenseEncoder, ModelError> {
        DenseEncoder::load("tiny", self.0.path(), options, &Device::Cpu)
    }

    pub fn load(&self) -> DenseEncoder {
        self.load_with(&DenseOptions::default()).expect("the model loads")
    }

    /// The vector of a text.
    pub fn vector(&self, text: &str) -> Vec<f32> {
        vector(&self.load(), text, Side::Document)
    }

    /// The message of the refusal, after checking that the model is at fault and named, and that no retry is made.
    pub fn refusal(&self) -> String {
        self.refusal_with(&DenseOptions::default(), FailureReason::InvalidModel)
    }

    pub fn refusal_with(&self, options: &DenseOptions, reason: FailureReason) -> String {
        let error = self.load_with(options).map(|_| ()).expect_err("the folder is rejected");
        assert_eq!(error.reason(), reason, "{error}");
        assert_eq!(error.reason().exit_code(), ExitCode::BadConfiguration, "{error}");
        let message = error.to_string();
        assert!(message.starts_with("model tiny: "), "{message}");
        message
    }
}

pub fn vector(model: &DenseEncoder, text: &str, side: Side) -> Vec<f32> {
    let tokens = model.encode(text, side).expect("tokens");
    model.embed(&[&tokens]).expect("a vector").into_values()
}

pub fn assert_names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
