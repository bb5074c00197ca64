//! Rotary position embedding (Su et al., 2021), the halves of a head rotated against each other.

use std::sync::OnceLock;

use candle_core::{Device, Result, Tensor};
use kernels::{cuda, rows};

use super::{
    Sequences,
    device::{self, Machine},
};

/// The rotations of every position, for heads of one width.
#[derive(Clone, Debug)]
pub struct Rotary {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// Cosines and sines, `[positions, half]`, on the device; uploaded at their first use.
    uploaded: OnceLock<[Tensor; 2]>,
}

impl Rotary {
    /// Rotations by `position ⋅ frequency` for `positions` positions; a head is twice as wide as there are frequencies.
    /// The angles are rounded to f32, as the models were trained with them.
    pub fn new(frequencies: &[f64], positions: usize) -> Self {
        let angle = |position: usize, frequency: &f64| f64::from(position as f32 * *frequency as f32);
        let angles = || (0..positions).flat_map(|position| frequencies.iter().map(move |f| angle(position, f)));
        Self {
            half: frequencies.len(),
            cos: angles().map(|angle| angle.cos() as f32).collect(),
            sin: angles().map(|angle| angle.sin() as f32).collect(),
            uploaded: OnceLock::new(),
        }
    }

    /// The frequencies θ^(-2i/width) of heads of `width`.
    pub fn frequencies(theta: f64, width: usize) -> Vec<f64> {
        (0..width / 2).map(|i| theta.powf(-2.0 * i as f64 / width as f64)).collect()
    }

    /// Rotates a head of the token at `position` in place. Columns beyond the rotations stay unchanged.
    pub(super) fn rotate(&self, head: &mut [f32], position: usize) {
        let at = position * self.half..(position + 1) * self.half;
        rows::rotate(&mut head[..2 * self.half], &self.cos[at.clone()], &self.sin[at]);
    }

    /// The rotation as the kernels of a device define it.
    pub(super) fn on(
        &self,
        on: &Device,
        machine: &mut dyn Machine,
        sequences: &Sequences,
    ) -> Result<cuda::rotary::Rotation> {
        let tables = device::get_or_init(&self.uploaded, || {
            let table = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu)?.to_device(on);
            Ok([table(&self.cos)?, table(&self.sin)?])
        })?;
        Ok(cuda::rotary::Rotation {
            cos: machine.input(&tables[0])?,
            sin: machine.input(&tables[1])?,
            half: self.half,
            positions: machine.input(sequences.positions_on(on)?)?,
        })
    }

    /// Rotates `[heads, tokens, width]`, the tokens of one sequence, with candle's operations.
    pub(super) fn portable(&self, x: &Tensor) -> Result<Tensor> {
        let (_, tokens, width) = x.dims3()?;
        let table = |values: &[f32]| {
            Tensor::from_slice(&values[..tokens * self.half], (tokens, self.half), &Device::Cpu)?
                .to_device(x.device())?
                .to_dtype(x.dtype())
        };
        let (cos, sin) = (table(&self.cos)?, table(&self.sin)?);
        let (a, b) = (x.narrow(2, 0, self.half)?, x.narrow(2, self.half, self.half)?);
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
        let rest = x.narrow(2, 2 * self.half, width - 2 * self.half)?;
        Tensor::cat(&[&first, &second, &rest], 2)
    }
}
