//! Memory under a ceiling: what is in use, and how many tokens a batch may have.
//!
//! On a CPU it is the memory of the process. There an allocation that fails ends the process, so a batch is admitted by
//! forecast: what was in use when the model was loaded, and what the batches at work are expected to take. On a device
//! it is the memory of the device; the forecast is that of what a batch was measured to take, and an allocation that
//! fails is an answer, not an end.

mod budget;
mod nvml;
mod source;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crds::memory::MemoryCeiling;

pub use budget::{AdaptiveBudget, Learnt, Limits, Mitigation};
pub use nvml::Known;
pub use source::{MemorySource, Process};

/// The share of a ceiling above which batches are made smaller before memory runs out.
const SOFT: f64 = 0.83;
/// Where the default ceiling has that limit, in bytes.
const SOFT_OF_DEFAULT: u64 = 10 << 30;

/// The memory of the process or of a device, and the ceiling that it has to stay under.
#[derive(Clone, Debug)]
pub struct Memory {
    source: Arc<dyn MemorySource>,
    /// What others held on the device when they were last looked for, in bytes. It is no part of any figure here.
    others: Arc<AtomicU64>,
    /// All that there is, in bytes.
    total: Option<u64>,
    /// The ceiling that was asked for, in bytes.
    asked: Option<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of_process(None)
    }
}

impl Memory {
    /// The memory of this process, under a ceiling in bytes where one is given.
    pub fn of_process(ceiling: Option<u64>) -> Self {
        Self { source: Arc::new(Process), others: Arc::default(), total: None, asked: ceiling }
    }

    /// The memory of a device, under a ceiling that is never more than others leave of it.
    pub fn of_device(source: Arc<dyn MemorySource>, ceiling: MemoryCeiling) -> Self {
        let asked = match ceiling {
            MemoryCeiling::Bytes(bytes) => Some(bytes),
            MemoryCeiling::Max => None,
        };
        let memory = Self { total: source.total(), source, others: Arc::default(), asked };
        memory.forget_others(memory.source.held().unwrap_or(0));
        memory
    }

    /// Looks for what others hold, where it can be told from what this process does: before a pass, when whoever had the
    /// device before may have given it back.
    pub fn look_for_others(&self) {
        if let Some(held) = self.source.held() {
            self.forget_others(held);
        } else {
            // Without a pool what this process took cannot be told from what others did; less in use is less of theirs.
            let others = self.source.used().saturating_sub(self.source.opened());
            self.others.fetch_min(others, Ordering::Relaxed);
        }
    }

    fn forget_others(&self, held: u64) {
        let others = self.source.used().saturating_sub(held).saturating_sub(self.source.opened());
        self.others.store(others, Ordering::Relaxed);
    }

    fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }

    /// What the figures are of: `process`, `nvml` or `driver`.
    pub fn source(&self) -> &'static str {
        self.source.name()
    }

    /// What is in use now, in bytes; 0 where the system does not say. What others took since they were looked for is in it.
    pub fn used(&self) -> u64 {
        self.source.used().saturating_sub(self.others())
    }

    /// The ceiling, in bytes; without one there is no end.
    pub fn ceiling(&self) -> u64 {
        self.limit().unwrap_or(u64::MAX)
    }

    /// The ceiling, in bytes, where there is one.
    pub fn limit(&self) -> Option<u64> {
        let left = self.total.map(|total| total.saturating_sub(self.others()));
        self.asked.into_iter().chain(left).min()
    }

    /// Where batches begin to be made smaller, in bytes.
    pub fn soft_limit(&self) -> u64 {
        match self.limit() {
            None => u64::MAX,
            Some(ceiling) if MemoryCeiling::Bytes(ceiling) == MemoryCeiling::OF_DEVICE => SOFT_OF_DEFAULT,
            Some(ceiling) => (ceiling as f64 * SOFT) as u64,
        }
    }

    /// What of [`Memory::used`] an allocator holds and nobody uses, in bytes.
    pub fn idle(&self) -> u64 {
        self.source.idle()
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
        self.source.peak().map_or_else(|| self.used(), |peak| peak.saturating_sub(self.others()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A card with that much memory, the bytes of it that are in use, and those of them that this process has taken.
    #[derive(Debug)]
    struct Card(Option<u64>, AtomicU64, u64);

    impl Card {
        fn new(total: Option<u64>, used: u64) -> Arc<Self> {
            Arc::new(Self(total, used.into(), 0))
        }
    }

    impl MemorySource for Card {
        fn name(&self) -> &'static str {
            "card"
        }

        fn used(&self) -> u64 {
            self.1.load(Ordering::Relaxed)
        }

        fn held(&self) -> Option<u64> {
            Some(self.2)
        }

        fn total(&self) -> Option<u64> {
            self.0
        }
    }

    /// A card of 16 GiB whose driver has no pools, and the bytes of it that are in use.
    #[derive(Debug)]
    struct NoPool(AtomicU64);

    impl MemorySource for NoPool {
        fn name(&self) -> &'static str {
            "card"
        }

        fn used(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn total(&self) -> Option<u64> {
            Some(16 * GIB)
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
            let memory = Memory::of_device(Card::new(total, 7), ceiling);
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
        assert_eq!(Memory::of_device(Card::new(None, 7), MemoryCeiling::Max).peak(), 7);
    }

    #[test]
    fn what_others_hold_does_not_count_and_is_not_there_to_take() {
        let held = |bytes| {
            let memory = Memory::of_device(Card::new(Some(80 * GIB), bytes), MemoryCeiling::OF_DEVICE);
            (memory.used(), memory.peak(), memory.ceiling())
        };
        assert_eq!(held(GIB / 2), (GIB / 2, GIB / 2, 12 * GIB), "the process's own");
        assert_eq!(held(41 * GIB), (GIB, GIB, 12 * GIB));
        assert_eq!(held(75 * GIB), (GIB, GIB, 6 * GIB), "little is left");
    }

    #[test]
    fn others_are_looked_for_anew_and_what_this_process_took_is_not_theirs() {
        let card = Arc::new(Card(Some(16 * GIB), (12 * GIB).into(), 3 * GIB));
        let memory = Memory::of_device(Arc::clone(&card) as _, MemoryCeiling::OF_DEVICE);
        let clone = memory.clone();
        assert_eq!((memory.used(), memory.ceiling()), (4 * GIB, 8 * GIB), "8 GiB are of others");
        card.1.store(4 * GIB, Ordering::Relaxed);
        assert_eq!(memory.used(), 0, "until they are looked for");
        memory.look_for_others();
        assert_eq!((memory.used(), memory.ceiling()), (4 * GIB, 12 * GIB));
        assert_eq!((clone.used(), clone.ceiling()), (4 * GIB, 12 * GIB), "those who share it know");
        let card = Arc::new(NoPool((10 * GIB).into()));
        let memory = Memory::of_device(Arc::clone(&card) as _, MemoryCeiling::Max);
        assert_eq!(memory.ceiling(), 7 * GIB, "9 of 16 GiB are of others");
        for (used, left) in [(14 * GIB, 7 * GIB), (3 * GIB, 14 * GIB), (9 * GIB, 14 * GIB)] {
            card.0.store(used, Ordering::Relaxed);
            memory.look_for_others();
            assert_eq!(memory.ceiling(), left, "{used} bytes in use");
        }
        let process = Memory::of_process(Some(GIB));
        process.look_for_others();
        assert!(process.used() > 0, "a process has no others");
    }
}
