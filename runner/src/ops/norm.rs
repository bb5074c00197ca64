//! Layer normalisation and RMS normalisation.

use candle_core::{D, DType, Result, Tensor};

use kernels::{
    cuda::{self, Address},
    norm::{Parameters, normalise},
};

use super::{
    device::{self, Machine},
    storage,
};

/// A normalisation of rows. Its parameters are f32, whatever the type of the rows.
#[derive(Clone, Debug)]
pub struct Norm {
    weight: Tensor,
    bias: Option<Tensor>,
    epsilon: f64,
    centre: bool,
}

impl Norm {
    /// (x - mean) / √(variance + ε) ⋅ weight + bias (Ba, Kiros and Hinton, 2016); `weight` and `bias` are `[width]`.
    pub fn layer(weight: Tensor, bias: Option<Tensor>, epsilon: f64) -> Self {
        Self { weight, bias, epsilon, centre: true }
    }

    /// x / √(mean of squares + ε) ⋅ weight (Zhang and Sennrich, 2019); the `weight` is `[width]`.
    pub fn rms(weight: Tensor, epsilon: f64) -> Self {
        Self { weight, bias: None, epsilon, centre: false }
    }

    /// The width of a row.
    pub fn width(&self) -> Result<usize> {
        self.weight.dim(0)
    }

    /// `[…, width]` → the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(mut machine) = device::machine(x) {
            return self.on_device(&mut *machine, x, None, None);
        }
        if !storage::on_cpu(x) {
            return self.portable(x);
        }
        let mut values = storage::to_vec(x)?;
        self.normalise(&mut values)?;
        Tensor::from_vec(values, x.shape(), x.device())
    }

    /// The norm of x + `bias` (`[width]`) + `residual` by the kernel of a device.
    pub(super) fn on_device(
        &self,
        machine: &mut dyn Machine,
        x: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let (norm, width) = (self.described(machine)?, self.width()?);
        let rows = cuda::norm::Rows::whole(x.elem_count() / width.max(1), width);
        let summands = cuda::norm::Summands {
            x: machine.input(x)?,
            bias: machine.optional(bias)?,
            residual: machine.optional(residual)?,
        };
        let out = machine.output(x.dims(), x.dtype())?;
        let outputs = cuda::norm::Outputs { added: Address::ABSENT, sum: Address::ABSENT, out };
        machine.launch(cuda::norm::norm(device::element(x.dtype())?, norm, rows, summands, outputs))?;
        machine.take(out)
    }

    /// The norm as the kernels of a device define it.
    pub(super) fn described(&self, machine: &mut dyn Machine) -> Result<cuda::norm::Norm> {
        Ok(cuda::norm::Norm {
            kind: if self.centre { cuda::norm::Kind::Layer } else { cuda::norm::Kind::Rms },
            epsilon: self.epsilon as f32,
            weight: machine.input(&self.weight)?,
            bias: machine.optional(self.bias.as_ref())?,
        })
    }

    /// Normalises rows of the CPU in place.
    pub(super) fn normalise(&self, rows: &mut [f32]) -> Result<()> {
        let (storage, layout) = self.weight.storage_and_layout();
        let bias = self.bias.as_ref().map(Tensor::storage_and_layout);
        let parameters = Parameters {
            weight: storage::slice(&storage, layout)?,
            bias: bias.as_ref().map(|(storage, layout)| storage::slice(storage, layout)).transpose()?,
            epsilon: self.epsilon as f32,
            centre: self.centre,
        };
        normalise(rows, parameters);
        Ok(())
    }

    /// [`Norm::forward`] by candle's operations, in f32 whatever the type of `x`.
    pub(super) fn portable(&self, x: &Tensor) -> Result<Tensor> {
        let wide = x.to_dtype(DType::F32)?;
        let wide = if self.centre { wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)? } else { wide };
        let variance = wide.sqr()?.mean_keepdim(D::Minus1)?;
        let scaled = wide.broadcast_div(&(variance + self.epsilon)?.sqrt()?)?;
        let y = scaled.broadcast_mul(&self.weight.to_dtype(DType::F32)?)?;
        let y = match &self.bias {
            Some(bias) => y.broadcast_add(&bias.to_dtype(DType::F32)?)?,
            None => y,
        };
        y.to_dtype(x.dtype())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::test::{assert_close, random};

    #[test]
    fn the_fused_form_is_the_portable_one() -> Result<()> {
        for width in [1, 5, 16, 33, 384] {
            let (weight, bias, x) = (random(1, &[width])?, random(2, &[width])?, random(3, &[4, width])?);
            for norm in [
                Norm::layer(weight.clone(), Some(bias), 1e-12),
                Norm::layer(weight.clone(), None, 1e-5),
                Norm::rms(weight.clone(), 1e-6),
            ] {
                // A single column has no variance: only ε remains.
                let tolerance = if width == 1 { 1e-2 } else { 2e-5 };
                assert_close(&norm.forward(&x)?, &norm.portable(&x)?, tolerance)?;
            }
        }
        Ok(())
    }
}
