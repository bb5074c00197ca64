//! The devices of the process.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use candle_core::Device;

use super::{
    DeviceLock, DeviceOptions, DeviceRequest, DeviceUse, LockOptions, PrepareDevice, driver, memory::Memory,
    request::settle,
};
use crate::{
    config::toggles::Toggles,
    process::{error::Result, interrupt::Interrupt},
};

/// A device that models run on.
#[derive(Debug)]
pub struct ComputeDevice {
    /// The device.
    pub device: Device,
    /// `cpu`, `cuda:0`, `cuda:1` and so on.
    pub name: String,
    /// Its memory, with the ceiling.
    pub memory: Memory,
    /// Its UUID, as NVML writes it; `None` for the CPU, which is not locked.
    pub(super) uuid: Option<String>,
}

/// The devices of a process: at least one, and all of one kind.
pub struct Devices {
    pub(super) all: Vec<ComputeDevice>,
    /// The requested and the used devices.
    pub used: DeviceUse,
    pub(super) locks: LockOptions,
    /// Locks that outlast a lease, because models stay loaded.
    pub(super) held: Mutex<Vec<DeviceLock>>,
}

impl Devices {
    /// Opens the requested devices; each GPU is prepared by `prepare`.
    ///
    /// # Errors
    /// If GPUs are required and there are fewer.
    pub fn open(request: DeviceRequest, toggles: &Toggles, locks: LockOptions, prepare: PrepareDevice) -> Result<Self> {
        let opened = match request.count() {
            0 => driver::OpenedDevices::none(""),
            count => driver::open(count, prepare),
        };
        let used = settle(request, opened.devices.len() as u32, &opened.reason, opened.fault)?;
        let gpu = |(index, opened): (usize, driver::OpenedDevice)| ComputeDevice {
            device: opened.device,
            name: format!("cuda:{index}"),
            memory: Memory::of_device(opened.memory, toggles.device_ceiling),
            uuid: Some(opened.uuid),
        };
        let mut all: Vec<ComputeDevice> = opened.devices.into_iter().enumerate().map(gpu).collect();
        if all.is_empty() {
            all.push(ComputeDevice {
                device: Device::Cpu,
                name: "cpu".into(),
                memory: Memory::of_process(toggles.process_ceiling),
                uuid: None,
            });
        }
        Ok(Self { all, used, locks, held: Mutex::default() })
    }

    /// The devices.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ComputeDevice> {
        self.all.iter()
    }

    /// `cuda` or `cpu`.
    pub fn kind(&self) -> &str {
        &self.used.used
    }

    /// Whether the devices are GPUs.
    pub fn accelerated(&self) -> bool {
        self.used.used != "cpu"
    }

    /// Locks every device, in the order of their UUIDs, so that two processes with the same devices do not deadlock.
    pub(super) fn lock(&self, interrupt: &Interrupt) -> Result<Vec<DeviceLock>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.is_empty() {
            return Ok(std::mem::take(&mut *held));
        }
        let mut uuids: Vec<&str> = self.iter().filter_map(|device| device.uuid.as_deref()).collect();
        uuids.sort_unstable();
        uuids.into_iter().map(|uuid| self.locks.acquire(uuid, interrupt)).collect()
    }

    /// Keeps locks until the next lease, or the end of the process.
    pub(super) fn keep(&self, locks: Vec<DeviceLock>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = locks;
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Devices").field("all", &self.all).field("used", &self.used).finish_non_exhaustive()
    }
}

/// The devices of a process, opened when they are first needed.
#[derive(Debug)]
pub struct LazyDevices {
    request: DeviceRequest,
    locks: LockOptions,
    prepare: PrepareDevice,
    opened: Mutex<Option<Arc<Devices>>>,
}

impl LazyDevices {
    /// Devices that are not opened yet; each GPU will be prepared by `prepare`.
    pub fn new(options: &DeviceOptions, prepare: PrepareDevice) -> Self {
        Self { request: options.request, locks: options.locks.clone(), prepare, opened: Mutex::default() }
    }

    /// The devices, opened by the first call.
    ///
    /// # Errors
    /// Same as [`Devices::open`].
    pub fn get(&self, toggles: &Toggles) -> Result<Arc<Devices>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(devices) = &*opened {
            return Ok(Arc::clone(devices));
        }
        let devices = Arc::new(Devices::open(self.request, toggles, self.locks.clone(), self.prepare)?);
        *opened = Some(Arc::clone(&devices));
        Ok(devices)
    }
}
