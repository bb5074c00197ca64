//! The linear layer x⋅Wᵀ + b.

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};

use kernels::{
    Activation,
    int8::{self, PackedInt8},
    matmul::{self, Packed, Rows, SubMatrix},
};

use super::{
    Epilogue, activation,
    device::{self, Machine},
    storage,
};

/// A linear layer.
#[derive(Debug)]
pub struct Linear {
    form: Form,
    inputs: usize,
    outputs: usize,
}

#[derive(Debug)]
enum Form {
    /// For the kernels of the CPU.
    Packed { weight: Packed, bias: Option<Vec<f32>> },
    /// For the kernels of the CPU, quantised.
    Int8 { weight: PackedInt8, bias: Option<Vec<f32>> },
    /// For the kernels of a device; the weight is `[outputs, inputs]`.
    Device {
        weight: Tensor,
        /// Of the weight's type, for the product.
        bias: Option<Tensor>,
        /// Of f32, for the kernels that follow it.
        wide_bias: Option<Tensor>,
    },
    /// For candle's operations; the weight is `[inputs, outputs]`.
    Portable { weight: Tensor, bias: Option<Tensor> },
}

impl Linear {
    /// A layer of the `weight` `[outputs, inputs]` and the `bias` `[outputs]`.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        if device::has_kernels(weight.device()) {
            return Self::for_device(weight, bias);
        }
        if !storage::on_cpu(weight) {
            return Self::portable(weight, bias);
        }
        let (outputs, inputs) = weight.dims2()?;
        let weight = weight.contiguous()?;
        let (storage, layout) = weight.storage_and_layout();
        let weight = Packed::transposed(storage::slice(&storage, layout)?, outputs, inputs, inputs);
        let bias = bias.map(storage::to_vec).transpose()?;
        Ok(Self { form: Form::Packed { weight, bias }, inputs, outputs })
    }

    /// [`Linear::new`] with the weight in 8-bit integers, and the input quantised while computing.
    ///
    /// # Errors
    /// If the weight is not on the CPU.
    pub fn int8(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        if inputs > int8::LARGEST_DEPTH {
            bail!("sums of {inputs} products of 8-bit integers do not fit 32 bits");
        }
        let weight = weight.contiguous()?;
        let (storage, layout) = weight.storage_and_layout();
        let weight = PackedInt8::transposed(storage::slice(&storage, layout)?, outputs, inputs, inputs);
        let bias = bias.map(storage::to_vec).transpose()?;
        Ok(Self { form: Form::Int8 { weight, bias }, inputs, outputs })
    }

    /// [`Linear::new`] in the form of a device's kernels.
    fn for_device(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let wide_bias = bias.map(|bias| bias.to_dtype(DType::F32)).transpose()?;
        let bias = bias.map(|bias| bias.to_dtype(weight.dtype())).transpose()?;
        let form = Form::Device { weight: weight.contiguous()?, bias, wide_bias };
        Ok(Self { form, inputs, outputs })
    }

    /// [`Linear::new`] in the form of candle's operations.
    pub(super) fn portable(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let form = Form::Portable { weight: weight.t()?.contiguous()?, bias: bias.cloned() };
        Ok(Self { form, inputs, outputs })
    }

    /// Several layers over the same input as one, their outputs side by side. `form` is [`Linear::new`] or another constructor.
    ///
    /// # Errors
    /// If some layers have a bias and others have none.
    pub fn stacked(
        layers: &[(Tensor, Option<Tensor>)],
        form: fn(&Tensor, Option<&Tensor>) -> Result<Self>,
    ) -> Result<Self> {
        let weights: Vec<&Tensor> = layers.iter().map(|(weight, _)| weight).collect();
        let biases: Vec<&Tensor> = layers.iter().filter_map(|(_, bias)| bias.as_ref()).collect();
        let bias = match biases.len() {
            0 => None,
            count if count == layers.len() => Some(Tensor::cat(&biases, 0)?),
            _ => bail!("some of the layers have a bias and others have none"),
        };
        form(&Tensor::cat(&weights, 0)?, bias.as_ref())
    }

    /// The width of the input.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The width of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `[rows, inputs]` → `[rows, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, None, Epilogue::default())
    }

    /// [`Linear::forward`], then the activation.
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        self.forward_with(x, Some(activation), Epilogue::default())
    }

    /// [`Linear::forward`], finished by the `epilogue`.
    pub fn forward_finished(&self, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
        self.forward_with(x, None, epilogue)
    }

    fn forward_with(&self, x: &Tensor, activation: Option<Activation>, epilogue: Epilogue<'_>) -> Result<Tensor> {
        match &self.form {
            Form::Packed { .. } | Form::Int8 { .. } => {
                let rows = x.dim(0)?;
                let (storage, layout) = x.storage_and_layout();
                let out = self.finished(storage::slice(&storage, layout)?, rows, activation, epilogue)?;
                Tensor::from_vec(out, (rows, self.outputs), x.device())
            }
            Form::Device { weight, bias, wide_bias } => {
                // Pooled vectors are f32.
                let x = &x.to_dtype(weight.dtype())?;
                let Some(mut machine) = device::machine(x) else { bail!("the layer is on another device") };
                match (activation.filter(|activation| *activation != Activation::Identity), epilogue.norm) {
                    (None, None) => machine.product(x, weight, bias.as_ref(), epilogue.residual),
                    (None, Some(norm)) => {
                        let y = machine.product(x, weight, None, None)?;
                        norm.on_device(&mut *machine, &y, wide_bias.as_ref(), epilogue.residual)
                    }
                    (Some(activation), _) => {
                        let y = machine.product(x, weight, None, None)?;
                        epilogue.portable(activation::on_device(&mut *machine, y, wide_bias.as_ref(), activation)?)
                    }
                }
            }
            Form::Portable { weight, bias } => {
                let mut y = x.matmul(weight)?;
                if let Some(bias) = bias {
                    y = y.broadcast_add(bias)?;
                }
                if let Some(activation) = activation {
                    y = activation::portable(&y, activation)?;
                }
                epilogue.portable(y)
            }
        }
    }

    /// [`Linear::forward_finished`] on slices: `x` is `rows` × inputs, the result `rows` × outputs. The activation comes before
    /// the epilogue, and is not combined with a residual.
    ///
    /// # Errors
    /// Same as [`Linear::product`].
    pub(super) fn finished(
        &self,
        x: &[f32],
        rows: usize,
        activation: Option<Activation>,
        epilogue: Epilogue<'_>,
    ) -> Result<Vec<f32>> {
        let mut out = vec![0.0; rows * self.outputs];
        epilogue.in_blocks(&mut out, self.outputs, |first, count, residual, out| {
            self.product(&x[first * self.inputs..], count, residual, activation, out)
        })?;
        Ok(out)
    }

    /// Whether the layer has the form of the CPU's kernels.
    pub(super) fn is_packed(&self) -> bool {
        matches!(self.form, Form::Packed { .. } | Form::Int8 { .. })
    }

    /// The product without the bias, and the bias, `[outputs]` of f32, for the next kernel.
    ///
    /// # Errors
    /// If the layer does not have the form of a device's kernels.
    pub(super) fn product_and_bias(&self, machine: &mut dyn Machine, x: &Tensor) -> Result<(Tensor, Option<&Tensor>)> {
        let Form::Device { weight, wide_bias, .. } = &self.form else { bail!("the layer is not on a device") };
        Ok((machine.product(x, weight, None, None)?, wide_bias.as_ref()))
    }

    /// The product on slices: `x` is `rows` × inputs, `out` and the residual are `rows` × outputs.
    ///
    /// # Errors
    /// If the layer does not have the form of the CPU's kernels.
    pub(super) fn product(
        &self,
        x: &[f32],
        rows: usize,
        residual: Option<&[f32]>,
        activation: Option<Activation>,
        out: &mut [f32],
    ) -> Result<()> {
        let x = Rows { values: x, count: rows, stride: self.inputs };
        let finish = |bias| matmul::Epilogue { bias, residual, activation };
        match &self.form {
            Form::Packed { weight, bias } => matmul::product(x, weight, finish(bias.as_deref()), out, self.outputs),
            Form::Int8 { weight, bias } => int8::product(x, weight, finish(bias.as_deref()), out, self.outputs),
            Form::Device { .. } | Form::Portable { .. } => bail!("the layer is not packed for the CPU"),
        }
        Ok(())
    }

    /// [`Linear::product`] without residual and activation, of which only the `columns` of `out` are needed; the other columns
    /// are undefined.
    pub(super) fn product_of_columns(
        &self,
        x: &[f32],
        rows: usize,
        columns: Range<usize>,
        out: &mut [f32],
    ) -> Result<()> {
        let Form::Packed { weight, bias } = &self.form else { return self.product(x, rows, None, None, out) };
        let x = Rows { values: x, count: rows, stride: self.inputs };
        let part = SubMatrix { columns, depth: 0..self.inputs };
        let finish = matmul::Epilogue { bias: bias.as_deref(), ..matmul::Epilogue::default() };
        matmul::product_with_submatrix(x, weight, part, finish, out, self.outputs);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::ops::{
        Norm,
        test::{assert_close, random},
    };

    #[test]
    fn the_packed_product_equals_that_of_candle_at_every_shape() -> Result<()> {
        for (rows, inputs, outputs) in
            [(1, 1, 1), (5, 7, 3), (6, 384, 16), (13, 385, 100), (97, 32, 33), (200, 1000, 65), (7, 0, 5), (0, 4, 4)]
        {
            let weight = random(1, &[outputs, inputs])?;
            let (bias, x, residual) =
                (random(2, &[outputs])?, random(3, &[rows, inputs])?, random(4, &[rows, outputs])?);
            let (packed, portable) = (Linear::new(&weight, Some(&bias))?, Linear::portable(&weight, Some(&bias))?);
            assert!(packed.is_packed() && !portable.is_packed());
            if rows == 0 || inputs == 0 {
                assert_eq!(packed.forward(&x)?.dims(), [rows, outputs]);
                continue;
            }
            assert_close(&packed.forward(&x)?, &portable.forward(&x)?, 3e-5)?;
            let norm = Norm::layer(random(5, &[outputs])?, None, 1e-2);
            for norm in [None, Some(&norm)] {
                let epilogue = Epilogue { residual: Some(&residual), norm };
                assert_close(&packed.forward_finished(&x, epilogue)?, &portable.forward_finished(&x, epilogue)?, 3e-5)?;
            }
            for activation in [Activation::Gelu, Activation::Silu, Activation::Relu] {
                let (fused, expected) =
                    (packed.forward_activated(&x, activation)?, portable.forward_activated(&x, activation)?);
                assert_close(&fused, &expected, 3e-5)?;
            }
        }
        Ok(())
    }

    #[test]
    fn the_product_of_8_bit_integers_is_near_that_of_floats() -> Result<()> {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 7, 3), (97, 32, 33), (200, 1000, 65)] {
            let (weight, bias) = (random(1, &[outputs, inputs])?, random(2, &[outputs])?);
            let (x, residual) = (random(3, &[rows, inputs])?, random(4, &[rows, outputs])?);
            let (int8, packed) = (Linear::int8(&weight, Some(&bias))?, Linear::new(&weight, Some(&bias))?);
            assert!(int8.is_packed());
            // The error of each product is at most a step of either scale, and errors of both signs add up as a random walk.
            let tolerance = 0.02 * (inputs as f32).sqrt();
            let epilogue = Epilogue { residual: Some(&residual), norm: None };
            assert_close(&int8.forward_finished(&x, epilogue)?, &packed.forward_finished(&x, epilogue)?, tolerance)?;
            let activated = |linear: &Linear| linear.forward_activated(&x, Activation::Gelu);
            assert_close(&activated(&int8)?, &activated(&packed)?, tolerance)?;
        }
        Ok(())
    }

    #[test]
    fn stacked_layers_are_side_by_side() -> Result<()> {
        let (one, two) = ((random(1, &[3, 5])?, Some(random(2, &[3])?)), (random(3, &[4, 5])?, Some(random(4, &[4])?)));
        let x = random(5, &[2, 5])?;
        let apart = [&one, &two].map(|(weight, bias)| Linear::new(weight, bias.as_ref())?.forward(&x));
        let [first, second] = apart;
        let both = Linear::stacked(&[one, two], Linear::new)?.forward(&x)?;
        assert_close(&both, &Tensor::cat(&[first?, second?], 1)?, 0.0)
    }

    #[test]
    fn a_bias_for_some_layers_only_is_rejected() -> Result<()> {
        let device = Device::Cpu;
        let weight = Tensor::zeros((2, 2), candle_core::DType::F32, &device)?;
        let bias = Tensor::zeros(2, candle_core::DType::F32, &device)?;
        assert!(Linear::stacked(&[(weight.clone(), Some(bias)), (weight, None)], Linear::new).is_err());
        Ok(())
    }
}
