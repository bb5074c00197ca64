//! Who says how much memory is in use: the process, or a device.

use std::fmt::Debug;

/// What a process has in use on a device beside its allocator, at most, in bytes: a context, libraries.
pub(super) const MOST_OPENED: u64 = 1 << 30;

/// What says how much memory is in use, and can give back what nobody uses.
pub trait MemorySource: Debug + Send + Sync {
    /// What the figures are of, as the summary has it: `process`, `nvml` or `driver`.
    fn name(&self) -> &'static str;

    /// What is in use now, in bytes; 0 where nobody says.
    fn used(&self) -> u64;

    /// All that there is, in bytes; none where nobody says.
    fn total(&self) -> Option<u64>;

    /// What of it this process's allocator has taken, in bytes; none where nobody says.
    fn held(&self) -> Option<u64> {
        None
    }

    /// What of it this process has in use beside its allocator, at most, in bytes.
    fn opened(&self) -> u64 {
        MOST_OPENED
    }

    /// What this process's allocator has taken and nobody uses, in bytes; 0 where nobody says.
    fn idle(&self) -> u64 {
        0
    }

    /// Gives back what an allocator holds and nobody uses. It waits for the work of the device that has begun.
    fn trim(&self) {}

    /// Forgets the largest use so far.
    fn mark(&self) {}

    /// The largest use since the mark, in bytes, comparable with [`MemorySource::used`]; none where nobody measures it.
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

/// The resident set, in bytes, that `/proc/self/status` names.
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
