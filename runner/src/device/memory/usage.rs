//! The memory of the process or of a device: its use, and the ceiling that it stays under.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crds::memory::MemoryCeiling;

use super::source::{MemorySource, Process};

/// The share of a ceiling above which batches shrink before memory runs out.
const SOFT_SHARE: f64 = 0.83;
/// The soft limit of the default ceiling, in bytes.
const SOFT_LIMIT_OF_DEFAULT: u64 = 10 << 30;

/// The memory of the process or of a device, and its ceiling.
#[derive(Clone, Debug)]
pub struct Memory {
    source: Arc<dyn MemorySource>,
    /// Memory that other processes used on the device at the last update, in bytes. It is excluded from all figures here.
    others: Arc<AtomicU64>,
    /// The size of the memory, in bytes.
    total: Option<u64>,
    /// The requested ceiling, in bytes.
    requested: Option<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::of_process(None)
    }
}

impl Memory {
    /// The memory of this process, with a ceiling in bytes if one is given.
    pub fn of_process(ceiling: Option<u64>) -> Self {
        Self { source: Arc::new(Process), others: Arc::default(), total: None, requested: ceiling }
    }

    /// The memory of a device. The ceiling is never more than other processes leave free.
    pub fn of_device(source: Arc<dyn MemorySource>, ceiling: MemoryCeiling) -> Self {
        let requested = match ceiling {
            MemoryCeiling::Bytes(bytes) => Some(bytes),
            MemoryCeiling::Max => None,
        };
        let memory = Self { total: source.total(), source, others: Arc::default(), requested };
        memory.set_others(memory.source.held().unwrap_or(0));
        memory
    }

    /// Updates the memory that other processes use, if it can be distinguished from that of this process. Called before a
    /// pass, because the previous holder of the device may have freed memory.
    pub fn update_others(&self) {
        if let Some(held) = self.source.held() {
            self.set_others(held);
        } else {
            // Without a pool the memory of this process and of others cannot be distinguished; but a lower use means that others
            // use less.
            let others = self.source.used().saturating_sub(self.source.opened());
            self.others.fetch_min(others, Ordering::Relaxed);
        }
    }

    fn set_others(&self, held: u64) {
        let others = self.source.used().saturating_sub(held).saturating_sub(self.source.opened());
        self.others.store(others, Ordering::Relaxed);
    }

    fn others(&self) -> u64 {
        self.others.load(Ordering::Relaxed)
    }

    /// The source of the figures: `process`, `nvml` or `driver`.
    pub fn source(&self) -> &'static str {
        self.source.name()
    }

    /// The memory in use now, in bytes; 0 if the system does not report it. It includes what other processes allocated since
    /// the last update.
    pub fn used(&self) -> u64 {
        self.source.used().saturating_sub(self.others())
    }

    /// The ceiling in bytes; `u64::MAX` without one.
    pub fn ceiling(&self) -> u64 {
        self.limit().unwrap_or(u64::MAX)
    }

    /// The ceiling in bytes; `None` without one.
    pub fn limit(&self) -> Option<u64> {
        let left = self.total.map(|total| total.saturating_sub(self.others()));
        self.requested.into_iter().chain(left).min()
    }

    /// The use in bytes above which batches shrink.
    pub fn soft_limit(&self) -> u64 {
        match self.limit() {
            None => u64::MAX,
            Some(ceiling) if MemoryCeiling::Bytes(ceiling) == MemoryCeiling::OF_DEVICE => SOFT_LIMIT_OF_DEFAULT,
            Some(ceiling) => (ceiling as f64 * SOFT_SHARE) as u64,
        }
    }

    /// The part of [`Memory::used`] that the allocator holds for later, in bytes.
    pub fn idle(&self) -> u64 {
        self.source.idle()
    }

    /// Frees the memory that the allocator holds for later.
    pub fn trim(&self) {
        self.source.trim();
    }

    /// Resets the peak.
    pub fn reset_peak(&self) {
        self.source.reset_peak();
    }

    /// The peak since the last reset in bytes, if it is measured; otherwise the use now.
    pub fn peak(&self) -> u64 {
        self.source.peak().map_or_else(|| self.used(), |peak| peak.saturating_sub(self.others()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A card: its size, the bytes in use, and the bytes that the allocator of this process holds.
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
    fn a_peak_that_is_not_measured_is_the_use_now() {
        assert_eq!(Memory::of_device(Card::new(None, 7), MemoryCeiling::Max).peak(), 7);
    }

    #[test]
    fn memory_of_other_processes_does_not_count_and_lowers_the_ceiling() {
        let held = |bytes| {
            let memory = Memory::of_device(Card::new(Some(80 * GIB), bytes), MemoryCeiling::OF_DEVICE);
            (memory.used(), memory.peak(), memory.ceiling())
        };
        assert_eq!(held(GIB / 2), (GIB / 2, GIB / 2, 12 * GIB), "the process's own");
        assert_eq!(held(41 * GIB), (GIB, GIB, 12 * GIB));
        assert_eq!(held(75 * GIB), (GIB, GIB, 6 * GIB), "little is left");
    }

    #[test]
    fn an_update_finds_the_memory_of_others_without_that_of_this_process() {
        let card = Arc::new(Card(Some(16 * GIB), (12 * GIB).into(), 3 * GIB));
        let memory = Memory::of_device(Arc::clone(&card) as _, MemoryCeiling::OF_DEVICE);
        let clone = memory.clone();
        assert_eq!((memory.used(), memory.ceiling()), (4 * GIB, 8 * GIB), "others use 8 GiB");
        card.1.store(4 * GIB, Ordering::Relaxed);
        assert_eq!(memory.used(), 0, "until the update");
        memory.update_others();
        assert_eq!((memory.used(), memory.ceiling()), (4 * GIB, 12 * GIB));
        assert_eq!((clone.used(), clone.ceiling()), (4 * GIB, 12 * GIB), "clones share the update");
        let card = Arc::new(NoPool((10 * GIB).into()));
        let memory = Memory::of_device(Arc::clone(&card) as _, MemoryCeiling::Max);
        assert_eq!(memory.ceiling(), 7 * GIB, "others use 9 of 16 GiB");
        for (used, left) in [(14 * GIB, 7 * GIB), (3 * GIB, 14 * GIB), (9 * GIB, 14 * GIB)] {
            card.0.store(used, Ordering::Relaxed);
            memory.update_others();
            assert_eq!(memory.ceiling(), left, "{used} bytes in use");
        }
        let process = Memory::of_process(Some(GIB));
        process.update_others();
        assert!(process.used() > 0, "a process has no others");
    }
}
