//! The feed-forward network of a layer, plain or gated.

use candle_core::{D, Result, Tensor};

use kernels::{Activation, cuda::activation::Gate as Activated, math, matmul::BLOCK_ROWS, rows::multiply};

use super::{
    Epilogue, Linear, activation,
    device::{self, Machine},
    storage,
};

/// Whether half of the inner values gates the other half (Shazeer, 2020), and which half is activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No gate: act(x⋅W₁)⋅W₂.
    None,
    /// (act(first) * second)⋅W₂, where first and second are the halves of x⋅W₁.
    First,
    /// (first * act(second))⋅W₂.
    Second,
}

/// A feed-forward network.
#[derive(Debug)]
pub struct FeedForward {
    /// `[hidden]` → `[inner]`, or `[2⋅inner]` with a gate.
    pub up: Linear,
    /// Whether and how half of the inner values gates the other.
    pub gate: Gate,
    /// The activation.
    pub activation: Activation,
    /// `[inner]` → `[hidden]`.
    pub down: Linear,
}

impl FeedForward {
    /// `[rows, hidden]` → the same shape, finished by the `epilogue`.
    pub fn forward(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        if let Some(mut machine) = device::machine(x) {
            return self.on_device(&mut *machine, x, epilogue);
        }
        if !(storage::on_cpu(x) && self.up.is_packed()) {
            return self.portable(x, epilogue);
        }
        let (rows, hidden) = x.dims2()?;
        let outputs = self.down.outputs();
        let (x_storage, layout) = x.storage_and_layout();
        let values = storage::slice(&x_storage, layout)?;
        let mut out = vec![0.0; rows * outputs];
        // Block by block, so that the inner values, the widest of a model, never leave the cache.
        let mut inner = vec![0.0; BLOCK_ROWS.min(rows) * self.up.outputs()];
        epilogue.in_blocks(&mut out, outputs, |first, count, residual, out| {
            let inner = &mut inner[..count * self.up.outputs()];
            self.inner(&values[first * hidden..], count, inner)?;
            self.down.product(&inner[..count * self.down.inputs()], count, residual, None, out)
        })?;
        Tensor::from_vec(out, (rows, outputs), x.device())
    }

    /// The activated and gated values of `rows` rows, packed at the beginning of `inner`.
    fn inner(&self, x: &[f32], rows: usize, inner: &mut [f32]) -> Result<()> {
        if self.gate == Gate::None {
            return self.up.product(x, rows, None, Some(self.activation), inner);
        }
        self.up.product(x, rows, None, None, inner)?;
        let width = self.up.outputs() / 2;
        for row in 0..rows {
            let (first, second) = inner[2 * row * width..][..2 * width].split_at_mut(width);
            math::apply(self.activation, if self.gate == Gate::First { first } else { second });
            multiply(first, second);
            inner.copy_within(2 * row * width..(2 * row + 1) * width, row * width);
        }
        Ok(())
    }

    /// [`FeedForward::forward`] by the kernels of a device.
    fn on_device(&self, machine: &mut dyn Machine, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let (up, bias) = self.up.product_and_bias(machine, x)?;
        let gated = |machine: &mut dyn Machine, activated| {
            activation::gated_on_device(machine, &up, bias, self.activation, activated)
        };
        let inner = match self.gate {
            Gate::None => activation::on_device(machine, up, bias, self.activation)?,
            Gate::First => gated(machine, Activated::First)?,
            Gate::Second => gated(machine, Activated::Second)?,
        };
        self.down.forward_finished(&inner, epilogue)
    }

    /// [`FeedForward::forward`] by candle's operations.
    fn portable(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        let inner = self.up.forward(x)?;
        let half = |at: usize| {
            let width = self.up.outputs() / 2;
            inner.narrow(D::Minus1, at * width, width)?.contiguous()
        };
        let inner = match self.gate {
            Gate::None => activation::portable(&inner, self.activation)?,
            Gate::First => (activation::portable(&half(0)?, self.activation)? * half(1)?)?,
            Gate::Second => (half(0)? * activation::portable(&half(1)?, self.activation)?)?,
        };
        self.down.forward_finished(&inner, epilogue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::test::{assert_close, random};

    #[test]
    fn the_fused_form_is_the_portable_one() -> Result<()> {
        let (hidden, inner) = (20, 33);
        for gate in [Gate::None, Gate::First, Gate::Second] {
            for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu] {
                let wide = if gate == Gate::None { inner } else { 2 * inner };
                let up = (random(1, &[wide, hidden])?, random(2, &[wide])?);
                let down = (random(3, &[hidden, inner])?, random(4, &[hidden])?);
                let network = |form: fn(&Tensor, Option<&Tensor>) -> Result<Linear>| -> Result<FeedForward> {
                    Ok(FeedForward {
                        up: form(&up.0, Some(&up.1))?,
                        gate,
                        activation,
                        down: form(&down.0, Some(&down.1))?,
                    })
                };
                for rows in [1, 95, 96, 200] {
                    let x = random(5, &[rows, hidden])?;
                    let fused = network(Linear::new)?.forward(&x, Epilogue::sum(&x))?;
                    assert_close(&fused, &network(Linear::portable)?.forward(&x, Epilogue::sum(&x))?, 2e-5)?;
                }
            }
        }
        Ok(())
    }
}
