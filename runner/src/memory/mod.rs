//! Memory under a ceiling: what is in use, and how many tokens a batch may have.
//!
//! On a CPU it is the memory of the process. There an allocation that fails ends the process, so a batch is admitted by
//! forecast: what was in use when the model was loaded, and what the batches at work are expected to take. On a device
//! it is the memory of the device; the forecast is that of what a batch was measured to take, and an allocation that
//! fails is an answer, not an end.

mod budget;
mod nvml;
mod source;

use std::sync::Arc;

use crds::memory::MemoryCeiling;

pub use budget::{AdaptiveBudget, Learnt, Limits, Mitigation};
pub use nvml::memory_of;
pub use source::{MemorySource, Process};

/// The share of a ceiling above which batches are made smaller before memory runs out.
const SOFT: f64 = 0.83;
/// Where the default ceiling has that limit, in bytes.
const SOFT_OF_DEFAULT: u64 = 10 << 30;

/// The memory of the process or of a device, and the ceiling that it has to stay under.
#[derive(Clone, Debug)]
pub struct Memory {
    source: Arc<dyn MemorySource>,
    ceiling: Option<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of_process(None)
    }
}

impl Memory {
    /// The memory of this process, under a ceiling in bytes where one is given.
    pub fn of_process(ceiling: Option<u64>) -> Self {
        Self { source: Arc::new(Process), ceiling }
    }

    /// The memory of a device, under a ceiling that is never more than the device has.
    pub fn of_device(source: Arc<dyn MemorySource>, ceiling: MemoryCeiling) -> Self {
        let asked = match ceiling {
            MemoryCeiling::Bytes(bytes) => Some(bytes),
            MemoryCeiling::Max => None,
        };
        let ceiling = asked.into_iter().chain(source.total()).min();
        Self { source, ceiling }
    }

    /// What the figures are of: `process`, `nvml` or `driver`.
    pub fn source(&self) -> &'static str {
        self.source.name()
    }

    /// What is in use now, in bytes; 0 where the system does not say.
    pub fn used(&self) -> u64 {
        self.source.used()
    }

    /// The ceiling, in bytes; without one there is no end.
    pub fn ceiling(&self) -> u64 {
        self.ceiling.unwrap_or(u64::MAX)
    }

    /// The ceiling, in bytes, where there is one.
    pub fn limit(&self) -> Option<u64> {
        self.ceiling
    }

    /// Where batches begin to be made smaller, in bytes.
    pub fn soft_limit(&self) -> u64 {
        match self.ceiling {
            None => u64::MAX,
            Some(ceiling) if MemoryCeiling::Bytes(ceiling) == MemoryCeiling::OF_DEVICE => SOFT_OF_DEFAULT,
            Some(ceiling) => (ceiling as f64 * SOFT) as u64,
        }
    }

    /// Gives back what an allocator holds and nobody uses.
    pub fn trim(&self) {
        self.source.trim();
    }

    /// Forgets the largest use so far.
    pub fn mark(&self) {
        self.source.mark();
    }

    /// The largest use since the mark, in bytes, where it is measured; else what is in use now.
    pub fn peak(&self) -> u64 {
        self.source.peak().unwrap_or_else(|| self.used())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A card with that much memory.
    #[derive(Debug)]
    struct Card(Option<u64>);

    impl MemorySource for Card {
        fn name(&self) -> &'static str {
            "card"
        }

        fn used(&self) -> u64 {
            7
        }

        fn total(&self) -> Option<u64> {
            self.0
        }
    }

    #[test]
    fn without_a_ceiling_there_is_no_limit() {
        assert_eq!(Memory::of_process(None).soft_limit(), u64::MAX);
        assert_eq!(Memory::of_process(Some(100)).soft_limit(), 83);
    }

    #[test]
    fn the_soft_limit_is_10gi_under_the_default_and_83_percent_under_any_other_ceiling() {
        const GIB: u64 = 1 << 30;
        let limits = |total: Option<u64>, ceiling: MemoryCeiling| {
            let memory = Memory::of_device(Arc::new(Card(total)), ceiling);
            (memory.ceiling(), memory.soft_limit())
        };
        let percent = |bytes: u64| (bytes as f64 * 0.83) as u64;
        assert_eq!(limits(Some(80 * GIB), MemoryCeiling::OF_DEVICE), (12 * GIB, 10 * GIB));
        assert_eq!(limits(None, MemoryCeiling::OF_DEVICE), (12 * GIB, 10 * GIB));
        assert_eq!(limits(Some(80 * GIB), MemoryCeiling::Bytes(40 * GIB)), (40 * GIB, percent(40 * GIB)));
        assert_eq!(limits(Some(80 * GIB), MemoryCeiling::Max), (80 * GIB, percent(80 * GIB)));
        assert_eq!(limits(Some(8 * GIB), MemoryCeiling::OF_DEVICE), (8 * GIB, percent(8 * GIB)), "a smaller card");
        assert_eq!(limits(None, MemoryCeiling::Max), (u64::MAX, u64::MAX));
    }

    #[test]
    fn what_is_not_measured_is_sampled() {
        assert_eq!(Memory::of_device(Arc::new(Card(None)), MemoryCeiling::Max).peak(), 7);
    }
}
