//! Runs the kernels by their emulation. Tensors of the CPU are copied into its buffers and back, so that every test of an
//! operation or a model detects reads of uninitialised memory and writes beside an output.

use std::{cell::Cell, collections::HashMap};

use candle_core::{DType, Device, Result, Tensor, bail};
use emulation::{Buffer, Plain};
use half::{bf16, f16};
use kernels::cuda::{Address, Launch};

use super::machine::Machine;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
}

/// Runs the `work` with the CPU treated as a device that has kernels, on this thread.
pub fn emulate<T>(work: impl FnOnce() -> T) -> T {
    struct Off;
    impl Drop for Off {
        fn drop(&mut self) {
            ON.set(false);
        }
    }
    ON.set(true);
    let _off = Off;
    work()
}

/// Whether the CPU is treated as a device that has kernels.
pub fn is_on() -> bool {
    ON.get()
}

/// One operation.
#[derive(Default)]
pub struct Emulation {
    buffers: HashMap<u64, Held>,
}

/// A buffer and the shape of its tensor.
struct Held {
    values: Values,
    shape: Vec<usize>,
}

enum Values {
    F32(Buffer<f32>),
    F16(Buffer<f16>),
    Bf16(Buffer<bf16>),
    U32(Buffer<u32>),
    I64(Buffer<i64>),
}

impl Values {
    fn address(&self) -> Address {
        match self {
            Self::F32(buffer) => buffer.address(),
            Self::F16(buffer) => buffer.address(),
            Self::Bf16(buffer) => buffer.address(),
            Self::U32(buffer) => buffer.address(),
            Self::I64(buffer) => buffer.address(),
        }
    }
}

impl Emulation {
    fn hold(&mut self, values: Values, shape: &[usize]) -> Address {
        let address = values.address();
        self.buffers.insert(address.0, Held { values, shape: shape.to_vec() });
        address
    }
}

impl Machine for Emulation {
    fn input(&mut self, x: &Tensor) -> Result<Address> {
        fn buffer<T: Plain + candle_core::WithDType>(x: &Tensor) -> Result<Buffer<T>> {
            Ok(Buffer::of(&x.flatten_all()?.to_vec1::<T>()?))
        }
        if !x.is_contiguous() {
            bail!("the kernels take contiguous tensors");
        }
        let values = match x.dtype() {
            DType::F32 => Values::F32(buffer(x)?),
            DType::F16 => Values::F16(buffer(x)?),
            DType::BF16 => Values::Bf16(buffer(x)?),
            DType::U32 => Values::U32(buffer(x)?),
            DType::I64 => Values::I64(buffer(x)?),
            dtype => bail!("no kernel reads {dtype:?}"),
        };
        Ok(self.hold(values, x.dims()))
    }

    fn output(&mut self, shape: &[usize], dtype: DType) -> Result<Address> {
        let count = shape.iter().product();
        let values = match dtype {
            DType::F32 => Values::F32(Buffer::new(count)),
            DType::F16 => Values::F16(Buffer::new(count)),
            DType::BF16 => Values::Bf16(Buffer::new(count)),
            DType::U32 => Values::U32(Buffer::new(count)),
            DType::I64 => Values::I64(Buffer::new(count)),
            dtype => bail!("no kernel writes {dtype:?}"),
        };
        Ok(self.hold(values, shape))
    }

    fn changed(&mut self, x: Tensor) -> Result<Address> {
        self.input(&x)
    }

    fn launch(&mut self, launch: Option<Launch>) -> Result<()> {
        launch.map_or(Ok(()), |launch| emulation::try_run(&launch).map_err(candle_core::Error::msg))
    }

    fn take(&mut self, address: Address) -> Result<Tensor> {
        let Some(Held { values, shape }) = self.buffers.remove(&address.0) else {
            bail!("no tensor is at {address:?}")
        };
        match values {
            Values::F32(buffer) => Tensor::from_vec(buffer.read(), shape, &Device::Cpu),
            Values::F16(buffer) => Tensor::from_vec(buffer.read(), shape, &Device::Cpu),
            Values::Bf16(buffer) => Tensor::from_vec(buffer.read(), shape, &Device::Cpu),
            Values::U32(buffer) => Tensor::from_vec(buffer.read(), shape, &Device::Cpu),
            Values::I64(buffer) => Tensor::from_vec(buffer.read(), shape, &Device::Cpu),
        }
    }

    fn product(
        &mut self,
        x: &Tensor,
        weight: &Tensor,
        bias: Option<&Tensor>,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let wide = |x: &Tensor| x.to_dtype(DType::F32);
        let mut y = wide(x)?.matmul(&wide(weight)?.t()?)?;
        if let Some(bias) = bias {
            y = y.broadcast_add(&wide(bias)?)?;
        }
        if let Some(residual) = residual {
            y = (y + wide(residual)?)?;
        }
        y.to_dtype(x.dtype())
    }
}
