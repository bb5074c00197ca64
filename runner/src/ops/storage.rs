//! The values of a tensor as a slice.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};

/// Whether the kernels of the CPU support the tensor.
pub fn on_cpu(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The values of a tensor that [`on_cpu`] accepts, row-major.
///
/// # Errors
/// If it is not contiguous, not f32, or on another device.
pub fn slice<'a>(storage: &'a Storage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((from, to))) => Ok(&values[from..to]),
        _ => bail!("not a contiguous f32 tensor of the CPU"),
    }
}

/// A copy of the values, row-major.
pub fn to_vec(x: &Tensor) -> Result<Vec<f32>> {
    x.flatten_all()?.to_vec1()
}
