//! Memory as NVIDIA's management library reports it: of the whole card, with what other processes use.
//!
//! The library is that of the driver and is loaded at run time; where it is missing, the driver itself answers.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use nvml_wrapper::{Device, Nvml, struct_wrappers::device::MemoryInfo};

use super::{MemorySource, source::MOST_OPENED};

/// The library, where the machine has one. It stays for the life of the process, and so do its devices.
static NVML: LazyLock<Option<Nvml>> =
    LazyLock::new(|| Nvml::init().inspect_err(|error| tracing::debug!("no figures of NVML: {error}")).ok());

/// What NVML writes before a UUID: of a whole card, and of a part of one, which the driver does not tell apart.
const KINDS: [&str; 2] = ["GPU", "MIG"];

/// What libraries take of a device when they first need it, beyond what is in use once it is opened, in bytes.
const LATER: u64 = 256 << 20;

/// Less than a context takes of a device, in bytes. Where opening it seems to have taken no more, others have given memory
/// back meanwhile.
const NO_CONTEXT: u64 = 64 << 20;

/// What NVML knows of a device that is not opened yet.
#[derive(Debug)]
pub struct Known {
    /// Its name as NVML writes it.
    name: String,
    /// The device, and its memory then; none where NVML does not say.
    device: Option<(Device<'static>, MemoryInfo)>,
}

impl Known {
    /// Of the device with that UUID.
    pub fn of(uuid: &str) -> Self {
        let names = KINDS.map(|kind| format!("{kind}-{uuid}"));
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

    /// Its name as NVML writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was free on it, in bytes; none where NVML does not say.
    pub fn free(&self) -> Option<u64> {
        self.device.as_ref().map(|(_, memory)| memory.free)
    }

    /// Its memory, once it is opened: as NVML reports it where it can, else as `driver` does. What an allocator holds is
    /// known to the `driver` alone.
    pub fn memory(self, driver: Arc<dyn MemorySource>) -> Arc<dyn MemorySource> {
        let Some((device, before)) = self.device else { return driver };
        let mut memory = Reported { device, driver, opened: MOST_OPENED, silent: AtomicBool::new(false) };
        let taken = memory.used().saturating_sub(before.used).saturating_sub(memory.held().unwrap_or(0));
        if taken > NO_CONTEXT {
            memory.opened = (taken + LATER).min(MOST_OPENED);
        }
        tracing::debug!(device = self.name, bytes = memory.opened, "opened");
        Arc::new(memory)
    }
}

/// A device of the library.
#[derive(Debug)]
struct Reported {
    device: Device<'static>,
    driver: Arc<dyn MemorySource>,
    /// What this process has in use beside its allocator, in bytes.
    opened: u64,
    /// Whether it was said that the library does not answer any more.
    silent: AtomicBool,
}

impl MemorySource for Reported {
    fn name(&self) -> &'static str {
        "nvml"
    }

    fn used(&self) -> u64 {
        match self.device.memory_info() {
            Ok(memory) => memory.used,
            Err(error) => {
                if !self.silent.swap(true, Ordering::Relaxed) {
                    tracing::warn!("NVML does not answer any more, the driver is asked from now on: {error}");
                }
                self.driver.used()
            }
        }
    }

    fn total(&self) -> Option<u64> {
        // The total has what the driver keeps for itself, which nobody can take.
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

    fn mark(&self) {
        self.driver.mark();
    }

    fn peak(&self) -> Option<u64> {
        self.driver.peak()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Process;

    #[test]
    fn a_device_that_the_library_does_not_know_is_left_to_the_driver() {
        let known = Known::of("00000000-0000-0000-0000-000000000000");
        assert_eq!(known.name(), "GPU-00000000-0000-0000-0000-000000000000");
        let memory = known.memory(Arc::new(Process));
        assert_eq!(memory.name(), "process");
        assert!(memory.used() > 0);
    }
}
