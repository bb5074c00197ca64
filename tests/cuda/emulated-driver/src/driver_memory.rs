//! The calls of the driver for memory: of cards, their pools and the host, and copies between them.

use std::{
    alloc::{Layout, alloc, dealloc},
    ffi::{c_int, c_uint, c_void},
};

use crate::{
    card::{self, Card},
    driver::{Stream, copy_bytes, object, stream_card, write_out},
    status::{CallResult, ErrorCode, status},
};

/// Copies or sets memory in the order of a stream. Every address `on_card` must be allocated on the stream's card.
fn copy(stream: *const Stream, on_card: &[u64], bytes: usize, copy: impl FnOnce()) -> CallResult {
    // The driver needs a current context even if the call names a stream.
    card::current()?;
    let card = stream_card(stream)?;
    let mut state = card.lock_working()?;
    for &address in on_card {
        if bytes > 0 && !state.memory.contains(address, bytes) {
            let reason = format!("a copy of {bytes} bytes at {address:#x}, not allocated on card {}", card.ordinal);
            return Err(state.fail(ErrorCode::INVALID_VALUE, reason));
        }
    }
    copy();
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: *const Stream) -> c_int {
    status(stream_card(stream).and_then(|card| allocate(card, address, bytes, true)))
}

fn allocate(card: &Card, address: *mut u64, bytes: usize, pool: bool) -> CallResult {
    if pool && !card::has_pools() {
        return Err(ErrorCode::NOT_SUPPORTED);
    }
    let mut state = card.lock_working()?;
    let free = card.free_bytes(&state);
    write_out(address, state.memory.allocate(bytes, free)?)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, stream: *const Stream) -> c_int {
    status(stream_card(stream).and_then(|card| free(card, address)))
}

fn free(card: &Card, address: u64) -> CallResult {
    // Memory of a failed card is freed too; the status is still the card's error.
    let mut state = card.lock();
    if let Err(reason) = state.memory.free(address) {
        return Err(state.fail(ErrorCode::INVALID_VALUE, reason));
    }
    drop(state);
    card.lock_working().map(|_| ())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_int {
    status(card::current().and_then(|card| allocate(card, address, bytes, false)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    let free_on_its_card = || {
        card::current()?;
        // Not always the current card: all cards share one address space.
        let card =
            card::all().iter().find(|card| card.lock().memory.contains(address, 1)).ok_or(ErrorCode::INVALID_VALUE)?;
        free(card, address)?;
        if !card::has_pools() {
            card.lock().memory.trim();
        }
        Ok(())
    };
    status(free_on_its_card())
}

/// Bytes before an allocation of host memory; they hold its layout.
const HEADER: usize = 64;

fn allocate_host(address: *mut *mut c_void, bytes: usize) -> CallResult {
    drop(card::current()?.lock_working()?);
    let layout = Layout::from_size_align(HEADER + bytes, HEADER).map_err(|_| ErrorCode::OUT_OF_MEMORY)?;
    // SAFETY: the layout includes the header.
    let memory = unsafe {
        let start = alloc(layout);
        if start.is_null() {
            return Err(ErrorCode::OUT_OF_MEMORY);
        }
        start.cast::<[usize; 2]>().write_unaligned([layout.size(), layout.align()]);
        start.add(HEADER)
    };
    write_out(address, memory.cast())
}

fn free_host(address: *mut c_void) -> CallResult {
    card::current()?;
    // SAFETY: `allocate_host` has allocated it.
    unsafe {
        let start = address.cast::<u8>().sub(HEADER);
        let [size, align] = start.cast::<[usize; 2]>().read_unaligned();
        dealloc(start, Layout::from_size_align_unchecked(size, align));
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, _: c_uint) -> c_int {
    status(allocate_host(address, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: *mut c_void) -> c_int {
    status(free_host(address))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    let get = || {
        let card = card::current()?;
        let free_bytes = card.free_bytes(&*card.lock_working()?);
        write_out(free, free_bytes as usize)?;
        write_out(total, card.total as usize)
    };
    status(get())
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut *const Card, device: c_int) -> c_int {
    let pools = card::has_pools().then_some(()).ok_or(ErrorCode::NOT_SUPPORTED);
    status(pools.and_then(|()| card::by_ordinal(device)).and_then(|card| write_out(pool, std::ptr::from_ref(card))))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAttribute(pool: *const Card, attribute: c_int, value: *const u64) -> c_int {
    let set = || {
        let (card, value) = (object(pool)?, *object(value)?);
        let mut state = card.lock_working()?;
        match (attribute, value) {
            // The release threshold: keep everything.
            (4, u64::MAX) => Ok(()),
            (6 | 8, 0) => {
                state.memory.reset_peaks();
                Ok(())
            }
            _ => Err(ErrorCode::INVALID_VALUE),
        }
    };
    status(set())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolGetAttribute(pool: *const Card, attribute: c_int, value: *mut u64) -> c_int {
    let get = || {
        let state = object(pool)?.lock_working()?;
        let memory = &state.memory;
        let bytes = match attribute {
            5 => memory.reserved(),
            6 => memory.reserved_high(),
            7 => memory.used(),
            8 => memory.used_high(),
            _ => return Err(ErrorCode::INVALID_VALUE),
        };
        write_out(value, bytes)
    };
    status(get())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(pool: *const Card, _: usize) -> c_int {
    status(object(pool).and_then(|card| card.lock_working().map(|mut state| state.memory.trim())))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *const Stream) -> c_int {
    status(copy(stream, &[to], bytes, || copy_bytes(from.cast(), to as *mut u8, bytes)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> c_int {
    cuMemcpyHtoDAsync_v2(to, from, bytes, std::ptr::null())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *const Stream) -> c_int {
    status(copy(stream, &[from], bytes, || copy_bytes(from as *const u8, to.cast(), bytes)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> c_int {
    cuMemcpyDtoHAsync_v2(to, from, bytes, std::ptr::null())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *const Stream) -> c_int {
    status(copy(stream, &[to, from], bytes, || copy_bytes(from as *const u8, to as *mut u8, bytes)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: *const Stream) -> c_int {
    // SAFETY: `copy` checks that they are allocated.
    status(copy(stream, &[to], bytes, || unsafe { (to as *mut u8).write_bytes(value, bytes) }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(to: u64, value: u8, bytes: usize) -> c_int {
    cuMemsetD8Async(to, value, bytes, std::ptr::null())
}
