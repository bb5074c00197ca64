//! The `Dense` module of `sentence-transformers` (`sentence_transformers/models/Dense.py`): a linear layer and an
//! activation over the vector of a text.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use crds::v1alpha1::Dtype;
use serde::Deserialize;

use crate::{
    model::{
        ModelError, Weights,
        folder::{ModelFolder, read_json},
        weights::Tensors,
    },
    ops::{Activation, Linear},
};

/// Activations, by the last part of the Python class's path.
const ACTIVATIONS: [(&str, Activation); 6] = [
    ("Identity", Activation::Identity),
    ("Tanh", Activation::Tanh),
    ("GELU", Activation::Gelu),
    ("ReLU", Activation::Relu),
    ("SiLU", Activation::Silu),
    ("Sigmoid", Activation::Sigmoid),
];

/// A linear layer and an activation.
#[derive(Debug)]
pub struct Projection {
    model: String,
    file: PathBuf,
    linear: Linear,
    activation: Activation,
}

/// The module's `config.json`.
#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "default_bias")]
    bias: bool,
    #[serde(default = "tanh")]
    activation_function: String,
}

fn default_bias() -> bool {
    true
}

fn tanh() -> String {
    "torch.nn.modules.activation.Tanh".to_owned()
}

/// The activation that a Python class path names, for example `torch.nn.modules.activation.Tanh`.
pub fn activation_of_class(
    model: &str,
    file: &Path,
    field: &'static str,
    class: &str,
) -> Result<Activation, ModelError> {
    let name = class.rsplit('.').next().unwrap_or(class);
    let known = ACTIVATIONS.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, activation)| *activation)
        .ok_or_else(|| ModelError::unsupported(model, file, field, class, &ACTIVATIONS.map(|(known, _)| known)))
}

impl Projection {
    /// Loads the module in `dir`.
    pub fn load(folder: &ModelFolder, dir: &Path, dtype: Dtype, device: &Device) -> Result<Self, ModelError> {
        let file = dir.join("config.json");
        let config: DenseConfig = read_json(&folder.name, &file)?;
        let activation = activation_of_class(&folder.name, &file, "activation_function", &config.activation_function)?;
        let weights = Weights::open(&folder.name, &folder.weights_files(dir)?, dtype, device)?;
        let tensors = Tensors::within(&weights, &[""], "linear.weight");
        let linear = tensors.linear("linear", config.in_features, config.out_features, config.bias)?;
        weights.reject_unused(&[""], "linear.weight", &[])?;
        Ok(Self { model: folder.name.clone(), file, linear, activation })
    }

    /// Checks that the projection takes vectors of `width` values, and returns the width of its output.
    ///
    /// # Errors
    /// If it takes vectors of another width.
    pub fn check_input(&self, width: usize) -> Result<usize, ModelError> {
        if self.linear.inputs() == width {
            return Ok(self.linear.outputs());
        }
        let inputs = self.linear.inputs().to_string();
        Err(ModelError::unsupported(&self.model, &self.file, "in_features", &inputs, &[&width.to_string()]))
    }

    /// `[rows, inputs]` → `[rows, outputs]`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.linear.forward_activated(x, self.activation)
    }
}
