//! The tensors of a model by module, and the layers that are made of them.

use candle_core::Tensor;

use super::Weights;
use crate::{
    model::ModelError,
    ops::{Linear, Norm, Table},
};

/// The tensors of a model below a prefix of their names.
#[derive(Clone)]
pub struct Tensors<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl<'a> Tensors<'a> {
    /// The tensors below the first of the `prefixes` under which there is the tensor `probe`. If there is none, names have
    /// no prefix, and the first tensor that is read fails as missing.
    pub fn within(weights: &'a Weights, prefixes: &[&str], probe: &str) -> Self {
        Self { weights, prefix: weights.prefix(prefixes, probe) }
    }

    /// The prefix of the names.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The tensors of the module `name`.
    #[must_use]
    pub fn module(&self, name: impl std::fmt::Display) -> Self {
        Self { weights: self.weights, prefix: format!("{}{name}.", self.prefix) }
    }

    /// Whether the tensor `name` exists.
    pub fn has(&self, name: &str) -> bool {
        self.weights.find(&format!("{}{name}", self.prefix)).is_some()
    }

    /// A matrix of any shape.
    ///
    /// # Errors
    /// Same as [`Tensors::tensor`]; or if the tensor is not a matrix.
    pub fn matrix(&self, name: &str) -> Result<Tensor, ModelError> {
        let shape = self.weights.find(&format!("{}{name}", self.prefix)).map(|(_, entry)| &entry.info.shape[..]);
        let shape = shape.filter(|shape| shape.len() == 2).unwrap_or(&[0, 0]).to_vec();
        self.tensor(name, &shape)
    }

    /// A tensor of the given shape.
    ///
    /// # Errors
    /// If it is missing, has another shape, is not of floats, or has a value that is not finite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let weights = self.weights;
        let (name_in_file, entry) = weights.find(&name).ok_or_else(|| ModelError::MissingTensor {
            model: weights.model.clone(),
            file: weights.files.first().map(|file| file.path.clone()).unwrap_or_default(),
            tensor: name.clone(),
        })?;
        if entry.info.shape != shape {
            return Err(ModelError::TensorShape {
                model: weights.model.clone(),
                file: weights.files[entry.file].path.clone(),
                tensor: entry.name.clone(),
                expected: shape.to_vec(),
                found: entry.info.shape.clone(),
            });
        }
        weights.read(name_in_file, entry)
    }

    /// The weight `[outputs, inputs]` and, if `bias` is set, the bias `[outputs]` of the linear layer `name`.
    ///
    /// # Errors
    /// Same as [`Tensors::tensor`].
    pub fn linear_parts(
        &self,
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<(Tensor, Option<Tensor>), ModelError> {
        let module = self.module(name);
        let weight = module.tensor("weight", &[outputs, inputs])?;
        let bias = bias.then(|| module.tensor("bias", &[outputs])).transpose()?;
        Ok((weight, bias))
    }

    /// The linear layer `name`, with a bias if `bias` is set.
    ///
    /// # Errors
    /// Same as [`Tensors::tensor`]; or if the layer cannot be built.
    pub fn linear(&self, name: &str, inputs: usize, outputs: usize, bias: bool) -> Result<Linear, ModelError> {
        let (weight, bias) = self.linear_parts(name, inputs, outputs, bias)?;
        self.with_context(self.weights.linear_constructor()(&weight, bias.as_ref()))
    }

    /// Several linear layers over the same input as one; `layers` are their names and numbers of outputs.
    ///
    /// # Errors
    /// Same as [`Tensors::linear`].
    pub fn stacked(&self, layers: &[(&str, usize)], inputs: usize, bias: bool) -> Result<Linear, ModelError> {
        let parts = layers.iter().map(|(name, outputs)| self.linear_parts(name, inputs, *outputs, bias));
        self.with_context(Linear::stacked(&parts.collect::<Result<Vec<_>, _>>()?, self.weights.linear_constructor()))
    }

    /// The layer normalisation `name`, with a bias if `bias` is set.
    ///
    /// # Errors
    /// Same as [`Tensors::tensor`].
    pub fn layer_norm(&self, name: &str, width: usize, bias: bool, epsilon: f64) -> Result<Norm, ModelError> {
        let module = self.module(name);
        let weight = module.tensor("weight", &[width])?;
        let bias = bias.then(|| module.tensor("bias", &[width])).transpose()?;
        Ok(Norm::layer(weight, bias, epsilon))
    }

    /// The embedding table `name`.
    ///
    /// # Errors
    /// Same as [`Tensors::tensor`].
    pub fn table(&self, name: &str, entries: usize, width: usize) -> Result<Table, ModelError> {
        Ok(Table::new(self.module(name).tensor("weight", &[entries, width])?))
    }

    /// Adds the model's name to the error of an operation on the tensors.
    ///
    /// # Errors
    /// If the operation failed.
    pub fn with_context<T>(&self, result: candle_core::Result<T>) -> Result<T, ModelError> {
        result.map_err(|source| ModelError::device(&self.weights.model, source))
    }
}
