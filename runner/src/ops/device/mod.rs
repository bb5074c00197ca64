//! Runs the kernels of `kernels::cuda` on a device, with its memory.
//!
//! An operation requests the [`Machine`] of its input. If there is one, the operation builds launches with `kernels::cuda`;
//! otherwise the device has no kernels of ours, and the portable form is used. In tests the emulation runs the kernels on
//! tensors of the CPU, through the same code.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod emulated;
mod machine;

use std::sync::OnceLock;

use candle_core::{DType, Device, Result, Tensor, bail};
use kernels::cuda::Element;

#[cfg(test)]
pub(crate) use self::emulated::emulate;
pub(super) use self::machine::Machine;

/// The machine of the device of `x`; `None` if it has no kernels of ours.
pub(super) fn machine(x: &Tensor) -> Option<Box<dyn Machine + '_>> {
    machine_of(x.device())
}

/// The machine of a device; `None` if it has no kernels of ours.
pub(super) fn machine_of(device: &Device) -> Option<Box<dyn Machine + '_>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Some(Box::new(cuda::Card::new(device))),
        #[cfg(test)]
        Device::Cpu if emulated::is_on() => Some(Box::<emulated::Emulation>::default()),
        _ => None,
    }
}

/// Loads the kernels of ours for a device, so that an unsupported device is rejected before a model is loaded. A device that uses
/// the portable operations needs no preparation.
///
/// # Errors
/// If the device is a GPU that the kernels do not support, or it has no memory for them.
pub fn prepare(device: &Device) -> Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::prepare(device),
        _ => Ok(()),
    }
}

/// Whether the device has kernels of ours, whose layout of tensors the weights need.
pub fn has_kernels(device: &Device) -> bool {
    machine_of(device).is_some()
}

/// The element type of the kernels for a type of tensors.
pub(super) fn element(dtype: DType) -> Result<Element> {
    match dtype {
        DType::F32 => Ok(Element::F32),
        DType::F16 => Ok(Element::F16),
        DType::BF16 => Ok(Element::Bf16),
        dtype => bail!("no kernel computes in {dtype:?}"),
    }
}

/// The value of a slot, made at its first use.
pub(super) fn get_or_init<T>(slot: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = slot.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(slot.get_or_init(|| value))
}

/// Copies integers to the device, `[values]`.
pub(super) fn upload(values: &[u32], device: &Device) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::upload(values, device),
        _ => Tensor::from_slice(values, values.len(), device),
    }
}

/// Copies the values of a tensor to the host, row-major. Waits until they are computed, but not for work that is queued behind
/// them.
pub fn download<T: Value>(x: &Tensor) -> Result<Vec<T>> {
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::download(x, device),
        _ => x.flatten_all()?.to_vec1(),
    }
}

/// A type that is copied to the host.
#[cfg(not(feature = "cuda"))]
pub trait Value: candle_core::WithDType {}
/// A type that is copied to the host.
#[cfg(feature = "cuda")]
pub trait Value: candle_core::WithDType + cuda::Staged {}
impl Value for f32 {}
impl Value for u32 {}
