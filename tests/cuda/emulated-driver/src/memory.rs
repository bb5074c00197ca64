//! The memory of a card: which there is, and what the pool keeps. It is memory of the process, between red zones.

use std::{
    alloc::{Layout, alloc, dealloc},
    collections::BTreeMap,
};

use crate::answer::{Code, Done};

/// What memory holds before it is written: NaN in every type of numbers.
const POISON: u8 = 0xff;
/// Bytes before and after what was asked for.
const ZONE: usize = 512;
/// What the driver aligns memory to.
const ALIGNMENT: usize = 512;
/// What a pool takes from a card at a time, in bytes.
const GRANULE: u64 = 2 << 20;

/// The memory of this process on a card.
#[derive(Debug, Default)]
pub struct Ledger {
    /// From the address to the number of bytes.
    live: BTreeMap<usize, usize>,
    used: u64,
    used_high: u64,
    reserved: u64,
    reserved_high: u64,
    /// The largest that the pool ever was.
    most: u64,
}

fn layout(bytes: usize) -> Done<Layout> {
    Layout::from_size_align(bytes + 2 * ZONE, ALIGNMENT).map_err(|_| Code::OUT_OF_MEMORY)
}

fn size(bytes: usize) -> u64 {
    bytes.next_multiple_of(ALIGNMENT) as u64
}

impl Ledger {
    /// Takes memory where the pool has it, or the `room` of the card lets the pool grow.
    pub fn take(&mut self, bytes: usize, room: u64) -> Done<u64> {
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let missing = (self.used + size(bytes)).saturating_sub(self.reserved).next_multiple_of(GRANULE);
        if missing > room {
            return Err(Code::OUT_OF_MEMORY);
        }
        let layout = layout(bytes)?;
        // SAFETY: the layout has bytes, all of which are written.
        let address = unsafe {
            let start = alloc(layout);
            if start.is_null() {
                return Err(Code::OUT_OF_MEMORY);
            }
            start.write_bytes(POISON, layout.size());
            start.expose_provenance() + ZONE
        };
        self.live.insert(address, bytes);
        self.used += size(bytes);
        self.used_high = self.used_high.max(self.used);
        self.reserved += missing;
        self.reserved_high = self.reserved_high.max(self.reserved);
        self.most = self.most.max(self.reserved);
        Ok(address as u64)
    }

    /// Gives memory back to the pool. Errors say what is wrong with it.
    pub fn give_back(&mut self, address: u64) -> Result<(), String> {
        let start = address as usize;
        let Some(bytes) = self.live.remove(&start) else {
            return Err(format!("{address:#x} is given back and is not held"));
        };
        self.used -= size(bytes);
        let whole = [start - ZONE, start + bytes].map(|zone| {
            // SAFETY: zones are around all memory that is held.
            (zone..zone + ZONE).all(|at| unsafe { (at as *const u8).read_volatile() } == POISON)
        });
        let layout = layout(bytes).map_err(|_| "a layout".to_owned())?;
        // SAFETY: allocated with this layout.
        unsafe { dealloc((start - ZONE) as *mut u8, layout) };
        match whole {
            [true, true] => Ok(()),
            _ => Err(format!("something was written beside {address:#x}, which has {bytes} bytes")),
        }
    }

    /// Whether so many bytes from an address on are within memory that is held.
    pub fn holds(&self, address: u64, bytes: usize) -> bool {
        self.left(address).is_some_and(|left| bytes <= left)
    }

    /// How many bytes there are from an address to the end of the memory that it is in.
    pub fn left(&self, address: u64) -> Option<usize> {
        let address = address as usize;
        let (start, held) = self.live.range(..=address).next_back()?;
        (start + held).checked_sub(address)
    }

    /// What nobody holds leaves the pool.
    pub fn trim(&mut self) {
        self.reserved = self.used.next_multiple_of(GRANULE);
    }

    /// The largest figures are those of now.
    pub fn mark(&mut self) {
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

    /// The largest that the pool ever was, in bytes.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// How many allocations are held.
    pub fn held(&self) -> usize {
        self.live.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_keeps_what_is_given_back_until_it_is_trimmed() {
        let mut ledger = Ledger::default();
        let one = ledger.take(3 << 20, 8 << 20).expect("room");
        assert_eq!((ledger.used(), ledger.reserved()), (3 << 20, 4 << 20));
        let two = ledger.take(1 << 20, 0).expect("the pool has it");
        assert_eq!(ledger.take(1, 0), Err(Code::OUT_OF_MEMORY));
        ledger.give_back(one).expect("whole");
        assert_eq!((ledger.used(), ledger.reserved(), ledger.reserved_high()), (1 << 20, 4 << 20, 4 << 20));
        ledger.trim();
        assert_eq!(ledger.reserved(), 2 << 20);
        ledger.give_back(two).expect("whole");
        ledger.trim();
        assert_eq!((ledger.used(), ledger.reserved(), ledger.held()), (0, 0, 0));
    }

    #[test]
    fn what_is_not_held_and_what_was_written_beside_it_show() {
        let mut ledger = Ledger::default();
        let address = ledger.take(100, 8 << 20).expect("room");
        assert!(ledger.holds(address, 100) && ledger.holds(address + 99, 1) && !ledger.holds(address + 99, 2));
        assert!(!ledger.holds(address - 1, 1));
        // SAFETY: the byte is one of the zone behind.
        unsafe { ((address + 100) as *mut u8).write(0) };
        assert!(ledger.give_back(address).is_err());
        assert!(ledger.give_back(address).is_err(), "it is gone");
        assert_eq!(ledger.take(0, 8 << 20), Err(Code::INVALID_VALUE));
    }
}
