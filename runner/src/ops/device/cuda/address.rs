//! Tensors on a card: their addresses, new ones, and errors of the driver.

use candle_core::{
    CudaDevice, CudaStorage, DType, Error, Result, Shape, Storage, Tensor, bail,
    cuda_backend::{
        CudaDType,
        cudarc::driver::{DevicePtr, DriverError},
    },
    op::BackpropOp,
};
use half::{bf16, f16};
use kernels::cuda::Address;

/// An error of the driver as an error of candle.
pub(super) fn driver_error(error: DriverError) -> Error {
    Error::Cuda(Box::new(error))
}

/// A tensor whose values are not written yet.
pub(super) fn allocate(device: &CudaDevice, shape: &[usize], dtype: DType) -> Result<Tensor> {
    let count = shape.iter().product::<usize>().max(1);
    // SAFETY: launches write all values before anybody reads one; the tests check it by emulation.
    let storage = unsafe {
        match dtype {
            DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(count)?, device.clone()),
            DType::F16 => CudaStorage::wrap_cuda_slice(device.alloc::<f16>(count)?, device.clone()),
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(count)?, device.clone()),
            DType::U32 => CudaStorage::wrap_cuda_slice(device.alloc::<u32>(count)?, device.clone()),
            DType::I64 => CudaStorage::wrap_cuda_slice(device.alloc::<i64>(count)?, device.clone()),
            other => bail!("no kernel writes {other:?}"),
        }
    };
    Ok(Tensor::from_storage(Storage::Cuda(storage), Shape::from(shape), BackpropOp::none(), false))
}

/// Where the values of a contiguous tensor begin.
pub(super) fn address(x: &Tensor) -> Result<Address> {
    fn first<T: CudaDType>(storage: &CudaStorage, offset: usize) -> Result<Address> {
        let slice = storage.as_cuda_slice::<T>()?;
        let stream = slice.stream();
        let (start, _) = slice.device_ptr(stream);
        Ok(Address(start + (offset * size_of::<T>()) as u64))
    }
    let (storage, layout) = x.storage_and_layout();
    let Some((offset, _)) = layout.contiguous_offsets() else { bail!("the kernels take contiguous tensors") };
    let Storage::Cuda(storage) = &*storage else { bail!("the tensor is not on the card") };
    match x.dtype() {
        DType::F32 => first::<f32>(storage, offset),
        DType::F16 => first::<f16>(storage, offset),
        DType::BF16 => first::<bf16>(storage, offset),
        DType::U32 => first::<u32>(storage, offset),
        DType::I64 => first::<i64>(storage, offset),
        other => bail!("no kernel reads {other:?}"),
    }
}
