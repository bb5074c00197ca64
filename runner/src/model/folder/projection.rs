//! The configuration of a `Dense` module (`sentence_transformers/base/modules/dense.py`).

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::Files;
use crate::{
    model::{ModelError, files::CONFIG},
    ops::Activation,
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

/// A linear layer and an activation, perhaps with the input added.
#[derive(Clone, Debug)]
pub struct ProjectionConfig {
    /// The module's folder.
    pub dir: PathBuf,
    /// The width of its input.
    pub inputs: usize,
    /// The width of its output.
    pub outputs: usize,
    /// Whether the layer has a bias.
    pub bias: bool,
    /// The activation of the layer's output.
    pub activation: Activation,
    /// Whether the input is added to the activated output; if the widths differ, after a projection of its own.
    pub residual: bool,
    /// The feature that it reads.
    pub input: String,
    /// The feature that it writes.
    pub output: String,
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
    #[serde(default)]
    use_residual: bool,
    #[serde(default = "sentence_embedding")]
    module_input_name: String,
    module_output_name: Option<String>,
}

fn default_bias() -> bool {
    true
}

fn tanh() -> String {
    "torch.nn.modules.activation.Tanh".to_owned()
}

fn sentence_embedding() -> String {
    "sentence_embedding".to_owned()
}

/// The activation that a Python class path names, for example `torch.nn.modules.activation.Tanh`.
///
/// # Errors
/// If it is not a known class of PyTorch.
pub fn activation_of_class(model: &str, file: &Path, field: &str, class: &str) -> Result<Activation, ModelError> {
    let name = class.rsplit('.').next().filter(|_| class.starts_with("torch."));
    let known = ACTIVATIONS.iter().find(|(known, _)| Some(*known) == name);
    let classes = || ACTIVATIONS.map(|(known, _)| known);
    known
        .map(|(_, activation)| *activation)
        .ok_or_else(|| ModelError::unsupported(model, file, field, class, &classes()))
}

impl ProjectionConfig {
    /// Reads the configuration of the module in `dir`.
    ///
    /// # Errors
    /// If it is missing or invalid, or has an unknown field.
    pub fn read(files: &Files, dir: &Path) -> Result<Self, ModelError> {
        let file = dir.join(CONFIG);
        let config: DenseConfig = files.strict_json(&file, &[])?;
        let class = &config.activation_function;
        Ok(Self {
            dir: dir.to_owned(),
            inputs: config.in_features,
            outputs: config.out_features,
            bias: config.bias,
            activation: activation_of_class(files.model(), &file, "activation_function", class)?,
            residual: config.use_residual,
            output: config.module_output_name.unwrap_or_else(|| config.module_input_name.clone()),
            input: config.module_input_name,
        })
    }

    /// Checks that the projection takes vectors of `width` values, and returns the width of its output.
    ///
    /// # Errors
    /// If it takes vectors of another width.
    pub fn check_input(&self, model: &str, width: usize) -> Result<usize, ModelError> {
        if self.inputs == width {
            return Ok(self.outputs);
        }
        let (file, found) = (self.dir.join(CONFIG), self.inputs.to_string());
        Err(ModelError::unsupported(model, &file, "in_features", &found, &[&width.to_string()]))
    }
}
