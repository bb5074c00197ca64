//! Opens devices through the CUDA driver. A build without CUDA has none.

use std::sync::Arc;

use candle_core::Device;

use super::{fault::Fault, memory::MemorySource};

/// Prepares an opened device for the operations that will run on it; an error means that the device cannot be used.
pub type PrepareDevice = fn(&Device) -> candle_core::Result<()>;

/// An opened device.
#[derive(Debug)]
pub struct OpenedDevice {
    /// The device.
    pub device: Device,
    /// Its UUID, as NVML writes it: `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Its memory as NVML or the driver reports it, with the pool that tensors come from.
    pub memory: Arc<dyn MemorySource>,
}

/// The devices that the driver opened.
#[derive(Debug)]
pub struct OpenedDevices {
    /// The devices in the driver's order, at most as many as requested.
    pub devices: Vec<OpenedDevice>,
    /// Why there are no more of them.
    pub reason: String,
    /// The kind of that failure: whether another attempt may open more.
    pub fault: Fault,
}

impl OpenedDevices {
    /// No devices.
    pub fn none(reason: &str) -> Self {
        Self { devices: Vec::new(), reason: reason.into(), fault: Fault::Other }
    }
}

/// Opens up to `count` devices.
#[cfg(not(feature = "cuda"))]
pub fn open(count: u32, _prepare: PrepareDevice) -> OpenedDevices {
    tracing::debug!(count, "this build has no CUDA support");
    OpenedDevices::none("this build of the runner has no CUDA support")
}

#[cfg(feature = "cuda")]
pub use cuda::open;

#[cfg(feature = "cuda")]
mod cuda {
    // The memory pool is reached by calls of the driver with addresses.
    #![allow(unsafe_code)]

    use std::{fmt, sync::Arc};

    use candle_core::{
        CudaDevice, Device,
        cuda_backend::cudarc::driver::{
            CudaContext, CudaStream, DriverError, result,
            sys::{CUmemPool_attribute, CUmemoryPool},
        },
    };

    use super::{OpenedDevice, OpenedDevices, PrepareDevice};
    use crate::device::{
        fault,
        memory::{MemorySource, UnopenedDevice},
    };

    /// Opens up to `count` devices and prepares each.
    pub fn open(count: u32, prepare: PrepareDevice) -> OpenedDevices {
        let mut all = OpenedDevices::none("");
        for ordinal in 0..count as usize {
            let mut free = None;
            let opened = unopened(ordinal).and_then(|unopened| {
                free = unopened.free();
                open_device(ordinal, unopened, prepare)
            });
            match opened {
                Ok(opened) => all.devices.push(opened),
                Err(error) => {
                    let error = fault::without_backtrace(error);
                    all.reason = format!("the CUDA driver cannot open device {ordinal}: {error}");
                    all.fault = fault::of_opening(&error, free);
                    break;
                }
            }
        }
        all
    }

    fn driver(error: DriverError) -> candle_core::Error {
        candle_core::Error::Cuda(Box::new(error))
    }

    /// The device before this process allocates anything on it.
    fn unopened(ordinal: usize) -> candle_core::Result<UnopenedDevice> {
        result::init().map_err(driver)?;
        let number = result::device::get(i32::try_from(ordinal).unwrap_or(i32::MAX)).map_err(driver)?;
        let uuid = result::device::get_uuid(number).map_err(driver)?.bytes.map(i8::cast_unsigned);
        Ok(UnopenedDevice::of(&uuid_text(uuid)))
    }

    fn open_device(
        ordinal: usize,
        unopened: UnopenedDevice,
        prepare: PrepareDevice,
    ) -> candle_core::Result<OpenedDevice> {
        let card = CudaDevice::new_with_stream(ordinal)?;
        // SAFETY: all tensors of the device are made, used and freed on its one stream, in the order of the calls.
        unsafe { card.disable_event_tracking() };
        let stream = card.cuda_stream();
        let pool = pool(stream.context()).map_err(driver)?;
        if let Some(pool) = &pool {
            keep_freed_memory(pool).map_err(driver)?;
        }
        let device = Device::Cuda(card);
        prepare(&device)?;
        let uuid = unopened.name().to_owned();
        Ok(OpenedDevice { device, uuid, memory: unopened.memory(Arc::new(DriverMemory { stream, pool })) })
    }

    /// The pool that tensors come from; `None` if the driver has no pools.
    fn pool(context: &CudaContext) -> Result<Option<Pool>, DriverError> {
        if !context.has_async_alloc() {
            return Ok(None);
        }
        // SAFETY: the device is that of the context.
        unsafe { result::device::get_default_mem_pool(context.cu_device()) }.map(|pool| Some(Pool(pool)))
    }

    /// Makes freed memory stay with the process until it is trimmed: allocating from the driver for each batch would make
    /// the card wait.
    fn keep_freed_memory(pool: &Pool) -> Result<(), DriverError> {
        let mut threshold = u64::MAX;
        let value = std::ptr::from_mut(&mut threshold).cast();
        let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a number of 64 bits.
        unsafe { result::mem_pool::set_attribute(pool.0, attribute, value) }
    }

    /// The UUID in the form that NVML writes.
    fn uuid_text(bytes: [u8; 16]) -> String {
        let hex = hex::encode(bytes);
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        parts.join("-")
    }

    struct Pool(CUmemoryPool);

    // SAFETY: the driver's functions for pools may be called from any thread.
    unsafe impl Send for Pool {}
    // SAFETY: as above.
    unsafe impl Sync for Pool {}

    /// Memory as the driver reports it: of the whole card, and of the pool that tensors come from.
    struct DriverMemory {
        stream: Arc<CudaStream>,
        /// `None` if the driver has no pools, as for some virtual cards.
        pool: Option<Pool>,
    }

    impl fmt::Debug for DriverMemory {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("DriverMemory").finish_non_exhaustive()
        }
    }

    impl DriverMemory {
        fn attribute(&self, attribute: CUmemPool_attribute) -> Option<u64> {
            let pool = self.pool.as_ref()?;
            let mut value = 0u64;
            // SAFETY: the pool is the device's own, and the attribute is a number of 64 bits.
            let result =
                unsafe { result::mem_pool::get_attribute(pool.0, attribute, std::ptr::from_mut(&mut value).cast()) };
            result.ok().map(|()| value)
        }
    }

    impl MemorySource for DriverMemory {
        fn name(&self) -> &'static str {
            "driver"
        }

        fn used(&self) -> u64 {
            self.stream.context().mem_get_info().map_or(0, |(free, total)| (total - free) as u64)
        }

        fn total(&self) -> Option<u64> {
            self.stream.context().mem_get_info().ok().map(|(_, total)| total as u64)
        }

        fn held(&self) -> Option<u64> {
            self.attribute(CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)
        }

        fn idle(&self) -> u64 {
            let used = self.attribute(CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
            self.held().zip(used).map_or(0, |(held, used)| held.saturating_sub(used))
        }

        fn trim(&self) {
            let Some(pool) = &self.pool else { return };
            let trimmed = self.stream.synchronize().and_then(|()| {
                // SAFETY: the pool is the device's own.
                unsafe { result::mem_pool::trim_to(pool.0, 0) }
            });
            if let Err(error) = trimmed {
                tracing::debug!("cannot trim the memory pool of the device: {error}");
            }
        }

        fn reset_peak(&self) {
            let Some(pool) = &self.pool else { return };
            // Writing zero resets the high-water mark to the present use; the driver accepts no other value.
            let mut zero = 0u64;
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
            // SAFETY: the pool is the device's own, and the attribute is a number of 64 bits.
            let reset =
                unsafe { result::mem_pool::set_attribute(pool.0, attribute, std::ptr::from_mut(&mut zero).cast()) };
            if let Err(error) = reset {
                tracing::debug!("cannot reset the high-water mark of the device's pool: {error}");
            }
        }

        fn peak(&self) -> Option<u64> {
            let most = self.attribute(CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?;
            Some(self.used() + most.saturating_sub(self.held()?))
        }
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn a_uuid_is_written_as_nvml_does() {
            let bytes = std::array::from_fn(|at| at as u8 * 17);
            assert_eq!(super::uuid_text(bytes), "00112233-4455-6677-8899-aabbccddeeff");
        }
    }
}
