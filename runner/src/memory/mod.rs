//! Memory under a ceiling: what is in use, and how many tokens a batch may have.
//!
//! On a CPU it is the memory of the process. There an allocation that fails ends the process, so a batch is admitted by
//! forecast: what was in use when the model was loaded, and what the batches at work are expected to take.

mod budget;

pub use budget::{AdaptiveBudget, Limits, Mitigation};

/// The share of the ceiling above which batches are made smaller before memory runs out.
const SOFT: f64 = 0.83;

/// The memory of the process and the ceiling that it has to stay under.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    ceiling: Option<u64>,
}

impl Memory {
    /// The memory of this process, under a ceiling in bytes where one is given.
    pub fn of_process(ceiling: Option<u64>) -> Self {
        Self { ceiling }
    }

    /// What is in use now, in bytes; 0 where the system does not say.
    pub fn used(self) -> u64 {
        std::fs::read_to_string("/proc/self/status").ok().and_then(|status| resident(&status)).unwrap_or(0)
    }

    /// The ceiling, in bytes; without one there is no end.
    pub fn ceiling(self) -> u64 {
        self.ceiling.unwrap_or(u64::MAX)
    }

    /// Where batches begin to be made smaller, in bytes.
    pub fn soft_limit(self) -> u64 {
        self.ceiling.map_or(u64::MAX, |ceiling| (ceiling as f64 * SOFT) as u64)
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
        assert!(Memory::of_process(None).used() > 1 << 20);
    }

    #[test]
    fn without_a_ceiling_there_is_no_limit() {
        assert_eq!(Memory::of_process(None).soft_limit(), u64::MAX);
        assert_eq!(Memory::of_process(Some(100)).soft_limit(), 83);
    }
}
