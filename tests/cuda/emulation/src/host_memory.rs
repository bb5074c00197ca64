//! The memory of the emulated device: that of the process.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    ptr::NonNull,
};

/// The alignment of the driver's allocations.
const ALIGNMENT: usize = 256;

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, ALIGNMENT).expect("a buffer is smaller than the address space")
}

/// Allocates `bytes` bytes of `value`; `bytes` is not 0.
pub fn allocate(bytes: usize, value: u8) -> usize {
    // SAFETY: the size of the layout is not 0.
    let Some(allocation) = NonNull::new(unsafe { alloc(layout(bytes)) }) else { handle_alloc_error(layout(bytes)) };
    // SAFETY: all of it was just allocated.
    unsafe { allocation.write_bytes(value, bytes) };
    allocation.as_ptr().expose_provenance()
}

/// Frees memory of [`allocate`].
pub fn free(address: usize, bytes: usize) {
    // SAFETY: allocated with this layout.
    unsafe { dealloc(address as *mut u8, layout(bytes)) };
}

/// Writes to allocated memory.
pub fn write(address: usize, bytes: &[u8]) {
    // SAFETY: the caller has allocated them.
    unsafe { bytes.as_ptr().copy_to_nonoverlapping(address as *mut u8, bytes.len()) };
}

/// Reads allocated memory, including the writes of kernels.
pub fn read(address: usize, bytes: usize) -> Vec<u8> {
    // SAFETY: the caller has allocated them, and all are initialised.
    (address..address + bytes).map(|at| unsafe { (at as *const u8).read_volatile() }).collect()
}
