//! The driver's calls for memory: of cards, their pools and the host, and copies between them.

use std::{
    alloc::{Layout, alloc, dealloc},
    ffi::{c_int, c_uint, c_void},
};

use crate::{
    answer::{Code, Done, code},
    card::{self, Card},
    driver::{Stream, copy_bytes, put, read, stream_card},
};

/// The work of a stream on memory: all of it has to be of its card, and is then there.
fn copy(stream: *const Stream, on_card: &[u64], bytes: usize, copy: impl FnOnce()) -> Done {
    // Even where a stream is named, the driver wants a context.
    card::current()?;
    let card = stream_card(stream)?;
    let mut state = card.open()?;
    for &address in on_card {
        if bytes > 0 && !state.memory.holds(address, bytes) {
            let why = format!("a copy of {bytes} bytes at {address:#x}, which card {} does not hold", card.ordinal);
            return Err(state.fail(Code::INVALID_VALUE, why));
        }
    }
    copy();
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: *const Stream) -> c_int {
    code(stream_card(stream).and_then(|card| take(card, address, bytes, true)))
}

fn take(card: &Card, address: *mut u64, bytes: usize, pool: bool) -> Done {
    if pool && !card::has_pools() {
        return Err(Code::NOT_SUPPORTED);
    }
    let mut state = card.open()?;
    let room = card.room(&state);
    put(address, state.memory.take(bytes, room)?)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, stream: *const Stream) -> c_int {
    code(stream_card(stream).and_then(|card| give_back(card, address)))
}

fn give_back(card: &Card, address: u64) -> Done {
    // What a card that has failed held is given back all the same, and the answer is that of the card.
    let mut state = card.look();
    if let Err(why) = state.memory.give_back(address) {
        return Err(state.fail(Code::INVALID_VALUE, why));
    }
    drop(state);
    card.open().map(|_| ())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: *mut u64, bytes: usize) -> c_int {
    code(card::current().and_then(|card| take(card, address, bytes, false)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    let free = || {
        card::current()?;
        // Whatever card is current: addresses are of one space.
        let card = card::all().iter().find(|card| card.look().memory.holds(address, 1)).ok_or(Code::INVALID_VALUE)?;
        give_back(card, address)?;
        if !card::has_pools() {
            card.look().memory.trim();
        }
        Ok(())
    };
    code(free())
}

/// What stands before memory of the host: its layout.
const HEADER: usize = 64;

fn take_host(address: *mut *mut c_void, bytes: usize) -> Done {
    drop(card::current()?.open()?);
    let layout = Layout::from_size_align(HEADER + bytes, HEADER).map_err(|_| Code::OUT_OF_MEMORY)?;
    // SAFETY: there is room for the header.
    let memory = unsafe {
        let start = alloc(layout);
        if start.is_null() {
            return Err(Code::OUT_OF_MEMORY);
        }
        start.cast::<[usize; 2]>().write_unaligned([layout.size(), layout.align()]);
        start.add(HEADER)
    };
    put(address, memory.cast())
}

fn free_host(address: *mut c_void) -> Done {
    card::current()?;
    // SAFETY: it was taken by `take_host`.
    unsafe {
        let start = address.cast::<u8>().sub(HEADER);
        let [size, align] = start.cast::<[usize; 2]>().read_unaligned();
        dealloc(start, Layout::from_size_align_unchecked(size, align));
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(address: *mut *mut c_void, bytes: usize, _: c_uint) -> c_int {
    code(take_host(address, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: *mut c_void) -> c_int {
    code(free_host(address))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    let get = || {
        let card = card::current()?;
        let room = card.room(&*card.open()?);
        put(free, room as usize)?;
        put(total, card.total as usize)
    };
    code(get())
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetDefaultMemPool(pool: *mut *const Card, device: c_int) -> c_int {
    let pools = card::has_pools().then_some(()).ok_or(Code::NOT_SUPPORTED);
    code(pools.and_then(|()| card::of(device)).and_then(|card| put(pool, std::ptr::from_ref(card))))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolSetAttribute(pool: *const Card, attribute: c_int, value: *const u64) -> c_int {
    let set = || {
        let (card, value) = (read(pool)?, *read(value)?);
        let mut state = card.open()?;
        match (attribute, value) {
            // What is kept when the program waits: all of it, as it asks.
            (4, u64::MAX) => Ok(()),
            (6 | 8, 0) => {
                state.memory.mark();
                Ok(())
            }
            _ => Err(Code::INVALID_VALUE),
        }
    };
    code(set())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolGetAttribute(pool: *const Card, attribute: c_int, value: *mut u64) -> c_int {
    let get = || {
        let state = read(pool)?.open()?;
        let memory = &state.memory;
        let known = match attribute {
            5 => memory.reserved(),
            6 => memory.reserved_high(),
            7 => memory.used(),
            8 => memory.used_high(),
            _ => return Err(Code::INVALID_VALUE),
        };
        put(value, known)
    };
    code(get())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(pool: *const Card, _: usize) -> c_int {
    code(read(pool).and_then(|card| card.open().map(|mut state| state.memory.trim())))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *const Stream) -> c_int {
    code(copy(stream, &[to], bytes, || copy_bytes(from.cast(), to as *mut u8, bytes)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> c_int {
    cuMemcpyHtoDAsync_v2(to, from, bytes, std::ptr::null())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *const Stream) -> c_int {
    code(copy(stream, &[from], bytes, || copy_bytes(from as *const u8, to.cast(), bytes)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> c_int {
    cuMemcpyDtoHAsync_v2(to, from, bytes, std::ptr::null())
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *const Stream) -> c_int {
    code(copy(stream, &[to, from], bytes, || copy_bytes(from as *const u8, to as *mut u8, bytes)))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, stream: *const Stream) -> c_int {
    // SAFETY: the card was asked whether it holds them.
    code(copy(stream, &[to], bytes, || unsafe { (to as *mut u8).write_bytes(value, bytes) }))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(to: u64, value: u8, bytes: usize) -> c_int {
    cuMemsetD8Async(to, value, bytes, std::ptr::null())
}
