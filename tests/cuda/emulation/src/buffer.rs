//! Memory that kernels read and write, between red zones.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    sync::{Mutex, MutexGuard, PoisonError},
};

use kernels::cuda::Address;

#[cfg(feature = "card")]
use crate::card as memory;
#[cfg(not(feature = "card"))]
use crate::host_memory as memory;

/// The bytes around a buffer, and in it before the first write: NaN in every type of numbers.
const POISON: u8 = 0xff;
/// Bytes of the zone before a buffer, and of the zone after it.
const ZONE: usize = 4096;

/// All live buffers: the address, and the number of bytes.
static BUFFERS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

fn buffers() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

mod sealed {
    pub trait Sealed {}
}

/// A type of which any bytes are a valid value.
pub trait Plain: Copy + sealed::Sealed {}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl sealed::Sealed for $type {}
        impl Plain for $type {}
    )*};
}
plain!(f32, half::f16, half::bf16, u8, u16, i32, u32, i64, u64);

/// Values in the memory of the emulated device, or of the card.
#[derive(Debug)]
pub struct Buffer<T: Plain> {
    /// The address of the zone before the values.
    allocation: usize,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Plain> Buffer<T> {
    /// A buffer of `len` unwritten values: NaN, or all bits set.
    pub fn new(len: usize) -> Self {
        let allocation = memory::allocate(len * size_of::<T>() + 2 * ZONE, POISON);
        let buffer = Self { allocation, len, values: PhantomData };
        buffers().insert(buffer.start(), len * size_of::<T>());
        buffer
    }

    /// A buffer that holds `values`.
    pub fn of(values: &[T]) -> Self {
        let buffer = Self::new(values.len());
        // SAFETY: values of a plain type are bytes, all of them initialised.
        let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) };
        memory::write(buffer.start(), bytes);
        buffer
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer holds no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the first value.
    pub fn address(&self) -> Address {
        self.address_of(0)
    }

    /// The address of the value at `index`, or of the end.
    ///
    /// # Panics
    /// If `index` is larger than the number of values.
    pub fn address_of(&self, index: usize) -> Address {
        assert!(index <= self.len, "the index is within the buffer");
        Address((self.start() + index * size_of::<T>()) as u64)
    }

    /// The current values.
    ///
    /// # Panics
    /// If a kernel has written next to them.
    pub fn read(&self) -> Vec<T> {
        if let Err(message) = check(self.address()) {
            panic!("{message}");
        }
        let bytes = memory::read(self.start(), self.len * size_of::<T>());
        // SAFETY: any bytes are a value of a plain type.
        bytes.chunks_exact(size_of::<T>()).map(|bytes| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() }).collect()
    }

    fn start(&self) -> usize {
        self.allocation + ZONE
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        buffers().remove(&self.start());
        memory::free(self.allocation, self.len * size_of::<T>() + 2 * ZONE);
    }
}

/// Checks that `address` is in a buffer or at its end, and that the zones around the buffer are intact.
pub(crate) fn check(address: Address) -> Result<(), String> {
    let address = address.0 as usize;
    let buffers = buffers();
    let buffer = buffers.range(..=address).next_back().filter(|&(start, bytes)| address <= start + bytes);
    let Some((&start, &bytes)) = buffer else { return Err(format!("{address:#x} is not in a buffer")) };
    for zone in [start - ZONE, start + bytes] {
        if let Some(at) = memory::read(zone, ZONE).iter().position(|value| *value != POISON) {
            let distance = (zone + at) as isize - start as isize;
            return Err(format!("byte {distance} of a buffer of {bytes} bytes was written"));
        }
    }
    Ok(())
}
