//! The `Dense` module of `sentence-transformers` (`sentence_transformers/base/modules/dense.py`): a linear layer and an
//! activation over vectors, perhaps with the input added.

use candle_core::{DType, Device, Tensor};
use crds::v1alpha1::Dtype;

use crate::{
    model::{
        ModelError, Weights,
        folder::{ModelFolder, ProjectionConfig},
        weights::Tensors,
    },
    ops::{Activation, Linear},
};

/// A linear layer and an activation.
#[derive(Debug)]
pub struct Projection {
    linear: Linear,
    activation: Activation,
    residual: Residual,
}

/// What is added to the activated output.
#[derive(Debug)]
enum Residual {
    None,
    /// The input.
    Input,
    /// A projection of the input to the width of the output.
    Projected(Linear),
}

impl Projection {
    /// Loads the weights of a module.
    ///
    /// # Errors
    /// If the weights are missing or invalid, or have another tensor.
    pub fn load(
        folder: &ModelFolder,
        config: &ProjectionConfig,
        dtype: Dtype,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let weights = Weights::open(&folder.files, &folder.weights_files(&config.dir)?, dtype, device)?;
        let tensors = Tensors::within(&weights, &[""], "linear.weight");
        let (inputs, outputs) = (config.inputs, config.outputs);
        let linear = tensors.linear("linear", inputs, outputs, config.bias)?;
        let residual = match config.residual {
            false => Residual::None,
            true if inputs == outputs => Residual::Input,
            true => Residual::Projected(tensors.linear("residual", inputs, outputs, false)?),
        };
        weights.reject_unused(&[""], "linear.weight", &[])?;
        Ok(Self { linear, activation: config.activation, residual })
    }

    /// `[rows, inputs]` → `[rows, outputs]`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let out = self.linear.forward_activated(x, self.activation)?;
        // A device computes the layers in the type of their weights; sums are f32.
        match &self.residual {
            Residual::None => Ok(out),
            Residual::Input => out.to_dtype(DType::F32)? + x.to_dtype(DType::F32)?,
            Residual::Projected(projection) => {
                out.to_dtype(DType::F32)? + projection.forward(x)?.to_dtype(DType::F32)?
            }
        }
    }
}
