//! Memory that kernels work on, between red zones.

use std::{
    alloc::{Layout, alloc, dealloc, handle_alloc_error},
    collections::BTreeMap,
    marker::PhantomData,
    ptr::NonNull,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kernels::cuda::Address;

/// What is around and, before anything is written, in a buffer: NaN in every type of numbers.
const POISON: u8 = 0xff;
/// Bytes before and after a buffer.
const ZONE: usize = 4096;
/// What the driver aligns memory to.
const ALIGNMENT: usize = 256;

/// The buffers there are: from the address to the number of bytes.
static BUFFERS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn buffers() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

mod sealed {
    pub trait Sealed {}
}

/// A type of values for which any bytes are one.
pub trait Plain: Copy + sealed::Sealed {}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}
        impl Plain for $type {}
    )*};
}
plain!(f32, half::f16, half::bf16, u8, u16, i32, u32, i64, u64);

/// Values in the memory of the device that is emulated.
#[derive(Debug)]
pub struct Buffer<T: Plain> {
    allocation: NonNull<u8>,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// Values that have not been written: NaN, or all bits set.
    pub fn new(len: usize) -> Self {
        let layout = layout(len * size_of::<T>());
        // SAFETY: the layout is not of size 0.
        let allocation = unsafe { alloc(layout) };
        let Some(allocation) = NonNull::new(allocation) else { handle_alloc_error(layout) };
        // SAFETY: all of it was just allocated.
        unsafe { allocation.write_bytes(POISON, layout.size()) };
        let buffer = Self { allocation, len, values: PhantomData };
        buffers().insert(buffer.start(), len * size_of::<T>());
        buffer
    }

    /// The `values`.
    pub fn of(values: &[T]) -> Self {
        let buffer = Self::new(values.len());
        // SAFETY: the buffer has place for as many values and is aligned for them.
        unsafe { values.as_ptr().copy_to_nonoverlapping(buffer.start() as *mut T, values.len()) };
        buffer
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the values are.
    pub fn address(&self) -> Address {
        self.address_of(0)
    }

    /// Where the value at `index` is.
    pub fn address_of(&self, index: usize) -> Address {
        assert!(index <= self.len, "an index in the buffer");
        Address((self.start() + index * size_of::<T>()) as u64)
    }

    /// The values now.
    ///
    /// # Panics
    /// If something was written next to them.
    pub fn read(&self) -> Vec<T> {
        if let Err(message) = check(self.address()) {
            panic!("{message}");
        }
        // SAFETY: that many values are there; all bytes are initialised, and any are a value.
        (0..self.len).map(|at| unsafe { (self.start() as *const T).add(at).read_volatile() }).collect()
    }

    fn start(&self) -> usize {
        self.allocation.as_ptr().expose_provenance() + ZONE
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        buffers().remove(&self.start());
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.allocation.as_ptr(), layout(self.len * size_of::<T>())) };
    }
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * ZONE, ALIGNMENT).expect("a buffer that fits into memory")
}

/// Whether `address` is in a buffer, or at its end, with nothing written around it.
pub(crate) fn check(address: Address) -> Result<(), String> {
    let address = address.0 as usize;
    let buffers = buffers();
    let found = buffers.range(..=address).next_back().filter(|&(start, bytes)| address <= start + bytes);
    let Some((&start, &bytes)) = found else { return Err(format!("{address:#x} is not in a buffer")) };
    for (zone, end) in [(start - ZONE, start), (start + bytes, start + bytes + ZONE)] {
        // SAFETY: the zones belong to the allocation, which is only freed after it has left the list of buffers.
        let mut values = (zone..end).map(|at| unsafe { (at as *const u8).read_volatile() });
        if let Some(at) = values.position(|value| value != POISON) {
            let distance = (zone + at) as isize - start as isize;
            return Err(format!("byte {distance} of a buffer of {bytes} bytes was written"));
        }
    }
    Ok(())
}
