//! Asking for memory ahead of its use.

/// The bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Asks for the cache lines of `values`, which will be read or written soon. On processors other than x86-64 it does
/// nothing: the standard library has no stable way to ask there.
#[inline(always)]
#[allow(unsafe_code)]
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(LINE / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint, whose only effect is on the caches; it cannot fault whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
