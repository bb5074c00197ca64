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

/// What a device that was only just opened has in use for this process, at most, in bytes. What is in use beyond it is
/// not this process's.
const OPENED: u64 = 1 << 30;

/// The memory of the process or of a device, and the ceiling that it has to stay under.
#[derive(Clone, Debug)]
pub struct Memory {
    source: Arc<dyn MemorySource>,
    /// What others held on the device when it was opened, in bytes. It is no part of any figure here.
    others: u64,
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
        Self { source: Arc::new(Process), others: 0, ceiling }
    }

    /// The memory of a device that was just opened, under a ceiling that is never more than others leave of it.
    pub fn of_device(source: Arc<dyn MemorySource>, ceiling: MemoryCeiling) -> Self {
        let asked = match ceiling {
            MemoryCeiling::Bytes(bytes) => Some(bytes),
            MemoryCeiling::Max => None,
        };
        let others = source.used().saturating_sub(OPENED);
        let left = source.total().map(|total| total.saturating_sub(others));
        let ceiling = asked.into_iter().chain(left).min();
        Self { source, others, ceiling }
    }

    /// What the figures are of: `process`, `nvml` or `driver`.
    pub fn source(&self) -> &'static str {
        self.source.name()
    }

    /// What is in use now, in bytes; 0 where the system does not say. What others took after the device was opened is in
    /// it.
    pub fn used(&self) -> u64 {
        self.source.used().saturating_sub(self.others)
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
        self.source.peak().map_or_else(|| self.used(), |peak| peak.saturating_sub(self.others))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A card with that much memory, and the bytes of it that are in use.
    #[derive(Debug)]
    struct Card(Option<u64>, u64);

    impl MemorySource for Card {
        fn name(&self) -> &'static str {
            "card"
        }

        fn used(&self) -> u64 {
            self.1
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
        let limits = |total: Option<u64>, ceiling: MemoryCeiling| {
            let memory = Memory::of_device(Arc::new(Card(total, 7)), ceiling);
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
        assert_eq!(Memory::of_device(Arc::new(Card(None, 7)), MemoryCeiling::Max).peak(), 7);
    }

    #[test]
    fn what_others_hold_does_not_count_and_is_not_there_to_take() {
        let held = |bytes| {
            let memory = Memory::of_device(Arc::new(Card(Some(80 * GIB), bytes)), MemoryCeiling::OF_DEVICE);
            (memory.used(), memory.peak(), memory.ceiling())
        };
        assert_eq!(held(GIB / 2), (GIB / 2, GIB / 2, 12 * GIB), "the process's own");
        assert_eq!(held(41 * GIB), (GIB, GIB, 12 * GIB));
        assert_eq!(held(75 * GIB), (GIB, GIB, 6 * GIB), "little is left");
    }
}
