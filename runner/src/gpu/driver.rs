//! Devices as the CUDA driver opens them. A build without CUDA has none.

use std::sync::Arc;

use candle_core::Device;

use super::fault::Fault;
use crate::memory::MemorySource;

/// A device that can be computed on.
#[derive(Debug)]
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Its UUID, as NVML writes it: `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Its memory as NVML or the driver reports it, and the pool that tensors come from.
    pub memory: Arc<dyn MemorySource>,
}

/// What the driver gives.
#[derive(Debug)]
pub struct Found {
    /// The devices, in the driver's order, no more than were asked for.
    pub devices: Vec<Opened>,
    /// Why there are no more of them.
    pub why: String,
    /// What that means: whether another try may find more.
    pub fault: Fault,
}

impl Found {
    /// No devices.
    pub fn none(why: &str) -> Self {
        Self { devices: Vec::new(), why: why.into(), fault: Fault::Other }
    }
}

/// Opens up to `count` devices.
#[cfg(not(feature = "cuda"))]
pub fn open(count: u32) -> Found {
    tracing::debug!(count, "this build has no devices");
    Found::none("this build of the runner has no CUDA")
}

#[cfg(feature = "cuda")]
pub use cuda::open;

#[cfg(feature = "cuda")]
mod cuda {
    // The memory pool is reached by calls of the driver with addresses.
    #![allow(unsafe_code)]

    use std::{fmt, sync::Arc};

    use candle_core::{
        Device,
        cuda_backend::cudarc::driver::{
            CudaStream, DriverError, result,
            sys::{CUmemPool_attribute, CUmemoryPool},
        },
    };

    use super::{Found, Opened};
    use crate::{
        gpu::fault,
        memory::{Known, MemorySource},
        ops,
    };

    /// Opens up to `count` devices.
    pub fn open(count: u32) -> Found {
        let mut found = Found::none("");
        for ordinal in 0..count as usize {
            let mut free = None;
            let opened = known(ordinal).and_then(|known| {
                free = known.free();
                open_one(ordinal, known)
            });
            match opened {
                Ok(opened) => found.devices.push(opened),
                Err(error) => {
                    let error = fault::without_backtrace(error);
                    found.why = format!("the CUDA driver opens no more: {error}");
                    found.fault = fault::of_opening(&error, free);
                    break;
                }
            }
        }
        found
    }

    fn driver(error: DriverError) -> candle_core::Error {
        candle_core::Error::Cuda(Box::new(error))
    }

    /// What is known of a device before anything of this process is on it.
    fn known(ordinal: usize) -> candle_core::Result<Known> {
        result::init().map_err(driver)?;
        let number = result::device::get(i32::try_from(ordinal).unwrap_or(i32::MAX)).map_err(driver)?;
        let uuid = result::device::get_uuid(number).map_err(driver)?.bytes.map(i8::cast_unsigned);
        Ok(Known::of(&uuid_text(uuid)))
    }

    fn open_one(ordinal: usize, known: Known) -> candle_core::Result<Opened> {
        let device = ops::device::open(ordinal)?;
        let Device::Cuda(card) = &device else { candle_core::bail!("device {ordinal} is no CUDA device") };
        let stream = card.cuda_stream();
        let pool = ops::device::pool(stream.context()).map_err(driver)?.map(Pool);
        let uuid = known.name().to_owned();
        Ok(Opened { device, uuid, memory: known.memory(Arc::new(DriverMemory { stream, pool })) })
    }

    /// The UUID as it is written.
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

    /// Memory as the driver reports it: of the whole card, with the pool that tensors come from.
    struct DriverMemory {
        stream: Arc<CudaStream>,
        /// None where the driver has no pools, as for some virtual cards.
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
            let got =
                unsafe { result::mem_pool::get_attribute(pool.0, attribute, std::ptr::from_mut(&mut value).cast()) };
            got.ok().map(|()| value)
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
                tracing::debug!("the pool of the device is not trimmed: {error}");
            }
        }

        fn mark(&self) {
            let Some(pool) = &self.pool else { return };
            // Writing zero makes the largest use that of now; there is no other value to write.
            let mut zero = 0u64;
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH;
            // SAFETY: the pool is the device's own, and the attribute is a number of 64 bits.
            let marked =
                unsafe { result::mem_pool::set_attribute(pool.0, attribute, std::ptr::from_mut(&mut zero).cast()) };
            if let Err(error) = marked {
                tracing::debug!("the largest use of the device's pool is not forgotten: {error}");
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
        fn a_uuid_is_written_as_others_do() {
            let bytes = std::array::from_fn(|at| at as u8 * 17);
            assert_eq!(super::uuid_text(bytes), "00112233-4455-6677-8899-aabbccddeeff");
        }
    }
}
