//! Devices as the CUDA driver opens them. A build without CUDA has none.

use std::sync::Arc;

use candle_core::Device;

use crate::memory::MemorySource;

/// A device that can be computed on.
#[derive(Debug)]
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Its UUID, as NVML writes it: `GPU-…` or `MIG-…`.
    pub uuid: String,
    /// Its memory, and the pool that tensors come from, as the driver reports them.
    pub memory: Arc<dyn MemorySource>,
}

/// What the driver gives.
#[derive(Debug)]
pub struct Found {
    /// The devices, in the driver's order, no more than were asked for.
    pub devices: Vec<Opened>,
    /// Why there are no more of them.
    pub why: String,
}

/// Opens up to `count` devices.
pub fn open(count: u32) -> Found {
    tracing::debug!(count, "this build has no devices");
    Found { devices: Vec::new(), why: "this build of the runner has no CUDA".into() }
}
