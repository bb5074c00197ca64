//! The operations of a device whose kernels are those of `kernels::cuda`: what they run on, and on what memory.
//!
//! An operation asks for the [`Machine`] of its input. Where there is one, it says by a builder of `kernels::cuda` what
//! to launch; where there is none, the device has no kernels of ours and the portable form is used. In tests the
//! kernels run by their emulation on tensors of the CPU, through the very same code.

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

/// The machine of the device of `x`, where it has kernels of ours.
pub(super) fn machine(x: &Tensor) -> Option<Box<dyn Machine + '_>> {
    machine_of(x.device())
}

/// The machine of a device, where it has kernels of ours.
pub(super) fn machine_of(device: &Device) -> Option<Box<dyn Machine + '_>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Some(Box::new(cuda::Card::new(device))),
        #[cfg(test)]
        Device::Cpu if emulated::is_on() => Some(Box::<emulated::Emulation>::default()),
        _ => None,
    }
}

/// Loads the kernels of ours for a device, so that a device without any is found before a model is loaded. A device that uses
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

/// Whether the operations of the device are kernels of ours, which tensors must be laid out for.
pub fn has_kernels(device: &Device) -> bool {
    machine_of(device).is_some()
}

/// The element of the kernels that a type of tensors is.
pub(super) fn element(dtype: DType) -> Result<Element> {
    match dtype {
        DType::F32 => Ok(Element::F32),
        DType::F16 => Ok(Element::F16),
        DType::BF16 => Ok(Element::Bf16),
        other => bail!("no kernel computes in {other:?}"),
    }
}

/// What a slot holds, made when it is first asked for.
pub(super) fn kept<T>(slot: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<&T> {
    if let Some(value) = slot.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(slot.get_or_init(|| value))
}

/// Whole numbers on the device; `[values]`.
pub(super) fn upload(values: &[u32], device: &Device) -> Result<Tensor> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::upload(values, device),
        _ => Tensor::from_slice(values, values.len(), device),
    }
}

/// The values of a tensor in the memory of the host, row-major, once they are computed. Work that is queued behind them
/// is not waited for.
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
