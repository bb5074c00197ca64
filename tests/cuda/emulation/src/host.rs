//! The memory of the emulated device, which is that of the process.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
};

/// What the driver aligns memory to.
const ALIGNMENT: usize = 256;

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGNMENT).expect("a buffer that fits into memory")
}

/// Memory whose bytes are all `value`; not of no bytes.
pub fn allocate(bytes: usize, value: u8) -> usize {
    // SAFETY: the layout is not of size 0.
    let Some(allocation) = NonNull::new(unsafe { alloc(layout(bytes)) }) else { handle_alloc_error(layout(bytes)) };
    // SAFETY: all of it was just allocated.
    unsafe { allocation.write_bytes(value, bytes) };
    allocation.as_ptr().expose_provenance()
}

/// Gives back what [`allocate`] gave.
pub fn free(address: usize, bytes: usize) {
    // SAFETY: allocated with this layout.
    unsafe { dealloc(address as *mut u8, layout(bytes)) };
}

/// Writes into memory that was allocated.
pub fn write(address: usize, bytes: &[u8]) {
    // SAFETY: there is place for them.
    unsafe { bytes.as_ptr().copy_to_nonoverlapping(address as *mut u8, bytes.len()) };
}

/// What is in memory that was allocated, also if a kernel has written it.
pub fn read(address: usize, bytes: usize) -> Vec<u8> {
    // SAFETY: that many bytes are there, and all are initialised.
    (address..address + bytes).map(|at| unsafe { (at as *const u8).read_volatile() }).collect()
}
