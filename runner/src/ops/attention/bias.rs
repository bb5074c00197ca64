//! Biases of attention scores.

use std::sync::OnceLock;

use candle_core::{Device, Result, Tensor};
use kernels::attention::Bias;

use crate::ops::device;

/// A bias that depends only on the head and on the distance between key and query: ALiBi, T5's buckets.
#[derive(Debug)]
pub struct DistanceBias {
    /// Per head, a value for every distance from `1 - positions` to `positions - 1`.
    pub(super) by_head: Vec<Vec<f32>>,
    pub(super) positions: usize,
    /// `[heads, 2⋅positions - 1]` on the device; uploaded at its first use.
    uploaded: OnceLock<Tensor>,
}

impl DistanceBias {
    /// The bias of each of the `heads`: `value(head, distance)`, where distance is the key's position minus the
    /// query's, for sequences of up to `positions` tokens.
    pub fn new(heads: usize, positions: usize, value: impl Fn(usize, isize) -> f32) -> Self {
        let last = positions as isize - 1;
        let by_head = (0..heads).map(|head| (-last..=last).map(|d| value(head, d)).collect()).collect();
        Self { by_head, positions, uploaded: OnceLock::new() }
    }

    /// The bias on the device, `[heads, 2⋅positions - 1]`.
    pub(super) fn on(&self, device: &Device) -> Result<&Tensor> {
        device::get_or_init(&self.uploaded, || Tensor::new(self.by_head.clone(), &Device::Cpu)?.to_device(device))
    }

    pub(super) fn of_head(&self, head: usize) -> Bias<'_> {
        Bias { by_distance: &self.by_head[head], centre: self.positions - 1 }
    }
}
