//! The memory pool of a card: its allocations, and the memory that it keeps. The memory is the process's own, between
//! red zones.

use std::{
    alloc::{Layout, alloc, dealloc},
    collections::BTreeMap,
};

use crate::status::{CallResult, ErrorCode};

/// The bytes of unwritten memory: NaN in every type of numbers.
const POISON: u8 = 0xff;
/// Bytes of the zone before an allocation, and of the zone after it.
const ZONE: usize = 512;
/// The alignment of the driver's allocations.
const ALIGNMENT: usize = 512;
/// A pool grows by multiples of so many bytes.
const GRANULE: u64 = 2 << 20;

/// The memory of this process on a card, in bytes.
#[derive(Debug, Default)]
pub struct Pool {
    /// Live allocations: the address, and the number of bytes.
    live: BTreeMap<usize, usize>,
    used: u64,
    used_high: u64,
    reserved: u64,
    reserved_high: u64,
    /// The largest size of the pool since the process began.
    peak: u64,
}

fn layout(bytes: usize) -> CallResult<Layout> {
    Layout::from_size_align(bytes + 2 * ZONE, ALIGNMENT).map_err(|_| ErrorCode::OUT_OF_MEMORY)
}

fn size(bytes: usize) -> u64 {
    bytes.next_multiple_of(ALIGNMENT) as u64
}

impl Pool {
    /// Allocates from the pool, which grows by no more than the `free` bytes of the card.
    ///
    /// # Errors
    /// `OUT_OF_MEMORY` if the pool would have to grow more, `INVALID_VALUE` for no bytes.
    pub fn allocate(&mut self, bytes: usize, free: u64) -> CallResult<u64> {
        if bytes == 0 {
            return Err(ErrorCode::INVALID_VALUE);
        }
        let missing = (self.used + size(bytes)).saturating_sub(self.reserved).next_multiple_of(GRANULE);
        if missing > free {
            return Err(ErrorCode::OUT_OF_MEMORY);
        }
        let layout = layout(bytes)?;
        // SAFETY: the layout has bytes, all of which are written.
        let address = unsafe {
            let start = alloc(layout);
            if start.is_null() {
                return Err(ErrorCode::OUT_OF_MEMORY);
            }
            start.write_bytes(POISON, layout.size());
            start.expose_provenance() + ZONE
        };
        self.live.insert(address, bytes);
        self.used += size(bytes);
        self.used_high = self.used_high.max(self.used);
        self.reserved += missing;
        self.reserved_high = self.reserved_high.max(self.reserved);
        self.peak = self.peak.max(self.reserved);
        Ok(address as u64)
    }

    /// Returns an allocation to the pool.
    ///
    /// # Errors
    /// The address is not that of a live allocation, or a zone around it was written.
    pub fn free(&mut self, address: u64) -> Result<(), String> {
        let start = address as usize;
        let Some(bytes) = self.live.remove(&start) else {
            return Err(format!("{address:#x} is freed and is not allocated"));
        };
        self.used -= size(bytes);
        let zones_are_intact = [start - ZONE, start + bytes].map(|zone| {
            // SAFETY: zones are around every allocation.
            (zone..zone + ZONE).all(|at| unsafe { (at as *const u8).read_volatile() } == POISON)
        });
        let layout = layout(bytes).map_err(|_| "a layout".to_owned())?;
        // SAFETY: allocated with this layout.
        unsafe { dealloc((start - ZONE) as *mut u8, layout) };
        match zones_are_intact {
            [true, true] => Ok(()),
            _ => Err(format!("a write next to the {bytes} bytes at {address:#x}")),
        }
    }

    /// Whether the `bytes` bytes from `address` on are within one allocation.
    pub fn contains(&self, address: u64, bytes: usize) -> bool {
        self.bytes_from(address).is_some_and(|available| bytes <= available)
    }

    /// The number of bytes from `address` to the end of its allocation; `None` outside of all allocations.
    pub fn bytes_from(&self, address: u64) -> Option<usize> {
        let address = address as usize;
        let (start, bytes) = self.live.range(..=address).next_back()?;
        (start + bytes).checked_sub(address)
    }

    /// Shrinks the pool to its live allocations.
    pub fn trim(&mut self) {
        self.reserved = self.used.next_multiple_of(GRANULE);
    }

    /// Resets the peaks that the driver reports to the current values.
    pub fn reset_peaks(&mut self) {
        self.used_high = self.used;
        self.reserved_high = self.reserved;
    }

    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn used_high(&self) -> u64 {
        self.used_high
    }

    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    pub fn reserved_high(&self) -> u64 {
        self.reserved_high
    }

    /// The largest size of the pool since the process began, in bytes.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// The number of live allocations.
    pub fn allocations(&self) -> usize {
        self.live.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_keeps_freed_memory_until_it_is_trimmed() {
        let mut pool = Pool::default();
        let first = pool.allocate(3 << 20, 8 << 20).expect("the card has room");
        assert_eq!((pool.used(), pool.reserved()), (3 << 20, 4 << 20));
        let second = pool.allocate(1 << 20, 0).expect("the pool has it");
        assert_eq!(pool.allocate(1, 0), Err(ErrorCode::OUT_OF_MEMORY));
        pool.free(first).expect("the zones are intact");
        assert_eq!((pool.used(), pool.reserved(), pool.reserved_high()), (1 << 20, 4 << 20, 4 << 20));
        pool.trim();
        assert_eq!(pool.reserved(), 2 << 20);
        pool.free(second).expect("the zones are intact");
        pool.trim();
        assert_eq!((pool.used(), pool.reserved(), pool.allocations()), (0, 0, 0));
    }

    #[test]
    fn freeing_twice_and_writes_next_to_an_allocation_are_errors() {
        let mut pool = Pool::default();
        let address = pool.allocate(100, 8 << 20).expect("the card has room");
        assert!(pool.contains(address, 100) && pool.contains(address + 99, 1) && !pool.contains(address + 99, 2));
        assert!(!pool.contains(address - 1, 1));
        // SAFETY: the byte is in the zone after the allocation.
        unsafe { ((address + 100) as *mut u8).write(0) };
        assert!(pool.free(address).is_err());
        assert!(pool.free(address).is_err(), "it was freed");
        assert_eq!(pool.allocate(0, 8 << 20), Err(ErrorCode::INVALID_VALUE));
    }
}
