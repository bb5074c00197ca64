//! Memory as NVIDIA's management library (NVML) reports it: of the whole card, other processes included.
//!
//! The library comes with the driver and is loaded at run time. If it is missing, the driver reports the memory.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use nvml_wrapper::{Device, Nvml, struct_wrappers::device::MemoryInfo};

use super::source::{MAX_OPENED, MemorySource};

/// The library, if the machine has it. It stays loaded for the life of the process, and so do its devices.
static NVML: LazyLock<Option<Nvml>> =
    LazyLock::new(|| Nvml::init().inspect_err(|error| tracing::debug!("NVML is not available: {error}")).ok());

/// The prefixes of a UUID in NVML: of a whole card, and of a MIG instance. The driver does not distinguish them.
const UUID_PREFIXES: [&str; 2] = ["GPU", "MIG"];

/// Memory that libraries allocate on first use, after the device is opened, in bytes.
const LIBRARY_BYTES: u64 = 256 << 20;

/// Less than any context takes on a device, in bytes. If opening seems to take no more, other processes have freed memory
/// meanwhile.
const MIN_CONTEXT_BYTES: u64 = 64 << 20;

/// A device that this process has not opened yet, as NVML reports it.
#[derive(Debug)]
pub struct UnopenedDevice {
    /// Its UUID as NVML writes it.
    name: String,
    /// The device and its memory before it is opened; `None` if NVML does not report it.
    device: Option<(Device<'static>, MemoryInfo)>,
}

impl UnopenedDevice {
    /// The device with this UUID.
    pub fn of(uuid: &str) -> Self {
        let names = UUID_PREFIXES.map(|kind| format!("{kind}-{uuid}"));
        for (nvml, name) in NVML.iter().flat_map(|nvml| names.iter().map(move |name| (nvml, name))) {
            match nvml.device_by_uuid(name.as_str()) {
                Ok(device) => {
                    let memory = device.memory_info();
                    return Self { name: name.clone(), device: memory.ok().map(|memory| (device, memory)) };
                }
                Err(error) => tracing::debug!(name, "NVML does not know the device: {error}"),
            }
        }
        let [card, _] = names;
        Self { name: card, device: None }
    }

    /// Its UUID as NVML writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The free memory in bytes; `None` if NVML does not report it.
    pub fn free(&self) -> Option<u64> {
        self.device.as_ref().map(|(_, memory)| memory.free)
    }

    /// Its memory after it is opened: reported by NVML if possible, otherwise by the `driver`. Only the `driver` knows what
    /// the allocator holds.
    pub fn memory(self, driver: Arc<dyn MemorySource>) -> Arc<dyn MemorySource> {
        let Some((device, before)) = self.device else { return driver };
        let mut memory = NvmlMemory { device, driver, opened: MAX_OPENED, failure_logged: AtomicBool::new(false) };
        let taken = memory.used().saturating_sub(before.used).saturating_sub(memory.held().unwrap_or(0));
        if taken > MIN_CONTEXT_BYTES {
            memory.opened = (taken + LIBRARY_BYTES).min(MAX_OPENED);
        }
        tracing::debug!(device = self.name, bytes = memory.opened, "opened");
        Arc::new(memory)
    }
}

/// The memory of a device of the library.
#[derive(Debug)]
struct NvmlMemory {
    device: Device<'static>,
    driver: Arc<dyn MemorySource>,
    /// Memory that this process uses outside its allocator, in bytes.
    opened: u64,
    /// Whether the failure of the library was logged.
    failure_logged: AtomicBool,
}

impl MemorySource for NvmlMemory {
    fn name(&self) -> &'static str {
        "nvml"
    }

    fn used(&self) -> u64 {
        match self.device.memory_info() {
            Ok(memory) => memory.used,
            Err(error) => {
                if !self.failure_logged.swap(true, Ordering::Relaxed) {
                    tracing::warn!("NVML no longer reports the memory, using the figures of the driver: {error}");
                }
                self.driver.used()
            }
        }
    }

    fn total(&self) -> Option<u64> {
        // The total that NVML reports includes memory that the driver reserves, which no process can use.
        self.device.memory_info().ok().map(|memory| memory.used + memory.free).or_else(|| self.driver.total())
    }

    fn held(&self) -> Option<u64> {
        self.driver.held()
    }

    fn opened(&self) -> u64 {
        self.opened
    }

    fn idle(&self) -> u64 {
        self.driver.idle()
    }

    fn trim(&self) {
        self.driver.trim();
    }

    fn reset_peak(&self) {
        self.driver.reset_peak();
    }

    fn peak(&self) -> Option<u64> {
        self.driver.peak()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Process;
    use super::*;

    #[test]
    fn a_device_that_nvml_does_not_know_is_reported_by_the_driver() {
        let unopened = UnopenedDevice::of("00000000-0000-0000-0000-000000000000");
        assert_eq!(unopened.name(), "GPU-00000000-0000-0000-0000-000000000000");
        let memory = unopened.memory(Arc::new(Process));
        assert_eq!(memory.name(), "process");
        assert!(memory.used() > 0);
    }
}
