//! The operations of a device whose kernels are those of `kernels::cuda`: what they run on, and on what memory.
//!
//! An operation asks for the [`Machine`] of its input. Where there is one, it says by a builder of `kernels::cuda` what
//! to launch; where there is none, the device has no kernels of ours and the portable form is used. In tests the
//! kernels run by their emulation on tensors of the CPU, through the very same code.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(test)]
mod emulated;
#[cfg(feature = "cuda")]
mod product;

use std::sync::OnceLock;

use candle_core::{DType, Device, Result, Tensor, bail};
use kernels::cuda::{Address, Element, Launch};

#[cfg(feature = "cuda")]
pub use self::cuda::{open, pool};
#[cfg(test)]
pub(crate) use self::emulated::emulate;

/// Where kernels run, for one operation.
pub(super) trait Machine {
    /// The address of a tensor that is only read, from its first value on.
    ///
    /// # Errors
    /// If it is not contiguous, or not on the device.
    fn input(&mut self, x: &Tensor) -> Result<Address>;

    /// A new tensor, all of which launches write; [`Machine::take`] gives it.
    fn output(&mut self, shape: &[usize], dtype: DType) -> Result<Address>;

    /// A tensor that launches change in place; [`Machine::take`] gives it back. Nobody else may hold it.
    fn changed(&mut self, x: Tensor) -> Result<Address>;

    /// Runs a launch after those before it. Nothing to launch is fine.
    fn launch(&mut self, launch: Option<Launch>) -> Result<()>;

    /// The tensor of an address of [`Machine::output`] or [`Machine::changed`].
    fn take(&mut self, address: Address) -> Result<Tensor>;

    /// x⋅Wᵀ, plus the `bias` (`[outputs]`) and the `residual` (`[rows, outputs]`): `x` is `[rows, inputs]`, the `weight`
    /// `[outputs, inputs]`. Sums are of f32.
    fn product(
        &mut self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor>;

    /// The address of a tensor that may be absent.
    fn optional(&mut self, x: Option<&Tensor>) -> Result<Address> {
        x.map_or(Ok(Address::ABSENT), |x| self.input(x))
    }
}

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

/// Whether what is made for the device takes the form of its kernels.
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
