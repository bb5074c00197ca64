//! The sources of memory figures: the process, or a device.

use std::fmt::Debug;

/// The most memory that a process uses on a device outside its allocator, in bytes: a context and libraries.
pub(super) const MAX_OPENED: u64 = 1 << 30;

/// Reports how much memory is in use, and can free what an allocator holds for later.
pub trait MemorySource: Debug + Send + Sync {
    /// The name in the summary: `process`, `nvml` or `driver`.
    fn name(&self) -> &'static str;

    /// The memory in use now, in bytes; 0 if unknown.
    fn used(&self) -> u64;

    /// The size of the memory, in bytes; `None` if unknown.
    fn total(&self) -> Option<u64>;

    /// The memory that the allocator of this process has reserved, in bytes; `None` if unknown.
    fn held(&self) -> Option<u64> {
        None
    }

    /// The most memory that this process uses outside its allocator, in bytes.
    fn opened(&self) -> u64 {
        MAX_OPENED
    }

    /// The memory that the allocator of this process holds for later, in bytes; 0 if unknown.
    fn idle(&self) -> u64 {
        0
    }

    /// Frees the memory that the allocator holds for later. Waits for the queued work of the device.
    fn trim(&self) {}

    /// Resets the peak.
    fn reset_peak(&self) {}

    /// The peak since the last reset, in bytes, comparable with [`MemorySource::used`]; `None` if it is not measured.
    fn peak(&self) -> Option<u64> {
        None
    }
}

/// The resident set of this process.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl MemorySource for Process {
    fn name(&self) -> &'static str {
        "process"
    }

    fn used(&self) -> u64 {
        std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident(&status)).unwrap_or(0)
    }

    fn total(&self) -> Option<u64> {
        None
    }
}

/// The resident set in `/proc/self/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_read() {
        assert_eq!(resident("VmPeak:\t  9 kB\nVmRSS:\t   1024 kB\n"), Some(1 << 20));
        assert_eq!(resident("nothing"), None);
        assert!(Process.used() > 1 << 20);
    }
}
