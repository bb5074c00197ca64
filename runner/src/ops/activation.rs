//! Activations over tensors.

use candle_core::{D, Result, Tensor};
use kernels::{
    Activation,
    cuda::{self, Address},
    math,
};

use super::{
    device::{self, Machine},
    storage,
};

/// Applies the activation to every value.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    if let Some(mut machine) = device::machine(x) {
        return on_device(&mut *machine, x.copy()?, None, activation);
    }
    if !storage::on_cpu(x) {
        return portable(x, activation);
    }
    let mut values = storage::to_vec(x)?;
    math::apply(activation, &mut values);
    Tensor::from_vec(values, x.shape(), x.device())
}

/// The activation of x + `bias` (one value per column), in place, by the kernel of a device. `x` must have no other owner.
pub(super) fn on_device(
    machine: &mut dyn Machine,
    x: Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let (element, width) = (device::element(x.dtype())?, x.dim(D::Minus1)?);
    let shape = [x.elem_count() / width.max(1), width];
    let bias = machine.optional(bias)?;
    let x = machine.changed(x)?;
    machine.launch(cuda::activation::activate(element, activation, shape, x, bias, Address::ABSENT, x))?;
    machine.take(x)
}

/// The halves of x + `bias`, one of them activated, multiplied with each other: `[rows, 2⋅width]` → `[rows, width]`.
pub(super) fn gated_on_device(
    machine: &mut dyn Machine,
    x: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    activated: cuda::activation::Gate,
) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let width = columns / 2;
    let out = machine.output(&[rows, width], x.dtype())?;
    let (input, bias) = (machine.input(x)?, machine.optional(bias)?);
    let element = device::element(x.dtype())?;
    machine.launch(cuda::activation::gate(element, activation, activated, [rows, width], input, bias, out))?;
    machine.take(out)
}

/// [`activate`] by candle's operations.
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
