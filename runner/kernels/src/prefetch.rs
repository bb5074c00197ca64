//! Prefetching memory into the caches.

/// The bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Rows that packing prefetches ahead of the current one. Rows of a head are a page apart, which the hardware prefetcher
/// does not follow.
pub(crate) const ROWS_AHEAD: usize = 8;

/// Prefetches the cache lines of `values`, which will be read or written soon. A no-op on processors other than x86-64,
/// where the standard library has no stable intrinsic for it.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint that affects the caches alone and cannot fault, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
