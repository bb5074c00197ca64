//! Activations over tensors.

use candle_core::{Result, Tensor};
use kernels::{Activation, math};

use super::storage;

/// Applies the activation to every value.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if !storage::on_cpu(x) {
        return portable(x, activation);
    }
    let mut values = storage::to_vec(x)?;
    math::apply(activation, &mut values);
    Tensor::from_vec(values, x.shape(), x.device())
}

/// [`activate`] of candle's operations.
pub(super) fn portable(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Silu => x.silu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => candle_nn::ops::sigmoid(x),
        Activation::Identity => Ok(x.clone()),
    }
}
