//! Memory as NVIDIA's management library reports it: of the whole card, with what other processes use.
//!
//! The library is that of the driver and is loaded at run time; where it is missing, the driver itself answers.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicBool, Ordering},
};

use nvml_wrapper::{Device, Nvml};

use super::MemorySource;

/// The library, where the machine has one. It stays for the life of the process, and so do its devices.
static NVML: LazyLock<Option<Nvml>> =
    LazyLock::new(|| Nvml::init().inspect_err(|error| tracing::debug!("no figures of NVML: {error}")).ok());

/// What NVML writes before a UUID: of a whole card, and of a part of one, which the driver does not tell apart.
const KINDS: [&str; 2] = ["GPU", "MIG"];

/// The device with that UUID: its name as NVML writes it, and its memory, as NVML reports it where it can, else as
/// `driver` does. What an allocator holds is known to the `driver` alone.
pub fn memory_of(uuid: &str, driver: Arc<dyn MemorySource>) -> (String, Arc<dyn MemorySource>) {
    let names = KINDS.map(|kind| format!("{kind}-{uuid}"));
    for (nvml, name) in NVML.iter().flat_map(|nvml| names.iter().map(move |name| (nvml, name))) {
        match nvml.device_by_uuid(name.as_str()) {
            Ok(device) if device.memory_info().is_ok() => {
                return (name.clone(), Arc::new(Reported { device, driver, silent: AtomicBool::new(false) }));
            }
            Ok(_) => return (name.clone(), driver),
            Err(error) => tracing::debug!(name, "NVML does not know the device: {error}"),
        }
    }
    let [card, _] = names;
    (card, driver)
}

/// A device of the library.
#[derive(Debug)]
struct Reported {
    device: Device<'static>,
    driver: Arc<dyn MemorySource>,
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
        let (name, memory) = memory_of("00000000-0000-0000-0000-000000000000", Arc::new(Process));
        assert_eq!((name.as_str(), memory.name()), ("GPU-00000000-0000-0000-0000-000000000000", "process"));
        assert!(memory.used() > 0);
    }
}
