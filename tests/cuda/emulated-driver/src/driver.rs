//! The driver's interface, as far as the program calls it.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Instant,
};

use crate::{
    answer::{Code, Done, code, not_supported},
    card::{self, Card},
    launch::{self, Function},
};

/// How modules of code begin.
const CODE: [[u8; 4]; 2] = [[0x50, 0xed, 0x55, 0xba], *b"\x7fELF"];
/// An event that measures no time.
const DISABLE_TIMING: c_uint = 2;

/// A queue of work. All of it is done at once.
#[derive(Debug)]
pub struct Stream {
    pub card: &'static Card,
}

#[derive(Debug)]
struct Event {
    card: &'static Card,
    timed: bool,
    at: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Module {
    card: &'static Card,
    /// The text of PTX, which is candle's; none of code, which is the runner's.
    ptx: Option<String>,
}

/// The card of a stream; the null stream is that of the current context.
pub fn stream_card(stream: *const Stream) -> Done<&'static Card> {
    // SAFETY: a stream is null, or what `cuStreamCreate` made.
    unsafe { stream.as_ref() }.map_or_else(card::current, |stream| Ok(stream.card))
}

/// Writes an answer.
pub fn put<T>(to: *mut T, value: T) -> Done {
    if to.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the caller has room for it.
    unsafe { to.write(value) };
    Ok(())
}

/// What a handle stands for.
pub fn read<T>(handle: *const T) -> Done<&'static T> {
    // SAFETY: a handle is null, or what was made here and not destroyed.
    unsafe { handle.as_ref() }.ok_or(Code::INVALID_HANDLE)
}

fn destroy<T: 'static>(handle: *mut T) -> Done {
    read(handle)?;
    // SAFETY: it was made by `make`.
    drop(unsafe { Box::from_raw(handle) });
    Ok(())
}

fn make<T>(to: *mut *mut T, value: T) -> Done {
    put(to, Box::into_raw(Box::new(value)))
}

pub fn copy_bytes(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller has compared what is on the card; of the host it is the program's promise.
    unsafe { std::ptr::copy(from, to, bytes) };
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_: c_uint) -> c_int {
    if card::all().is_empty() { Code::NO_DEVICE.0 } else { 0 }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    code(put(count, card::all().len() as c_int))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    code(card::of(ordinal).and_then(|_| put(device, ordinal)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> c_int {
    let write = || {
        card::of(device)?;
        let text = c"emulated".to_bytes_with_nul();
        if (length as usize) < text.len() {
            return Err(Code::INVALID_VALUE);
        }
        copy_bytes(text.as_ptr(), name.cast(), text.len());
        Ok(())
    };
    code(write())
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> c_int {
    code(card::of(device).and_then(|card| put(uuid, card.uuid())))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> c_int {
    code(card::of(device).and_then(|card| put(bytes, card.total as usize)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> c_int {
    let known = match attribute {
        1 => 1024, // threads of a block
        10 => 32,  // threads of a warp
        16 => 16,  // processors
        75 => 9,   // compute capability, the first number
        115 => c_int::from(card::has_pools()),
        _ => 0,
    };
    code(card::of(device).and_then(|_| put(value, known)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *const Card, device: c_int) -> c_int {
    let retain = || {
        let card = card::of(device)?;
        card.open()?.opened = true;
        put(context, std::ptr::from_ref(card))
    };
    code(retain())
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    code(card::of(device).map(|_| ()))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: *const Card) -> c_int {
    // SAFETY: null, or the address of a card.
    card::make_current(unsafe { context.as_ref() });
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: *mut *const Card) -> c_int {
    code(put(context, card::peek().map_or(std::ptr::null(), std::ptr::from_ref)))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> c_int {
    code(card::current().and_then(|card| card.open().map(|_| ())))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(stream: *mut *mut Stream, _: c_uint) -> c_int {
    code(card::current().and_then(|card| card.open().map(|_| card)).and_then(|card| make(stream, Stream { card })))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: *mut Stream) -> c_int {
    code(destroy(stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: *const Stream) -> c_int {
    code(stream_card(stream).and_then(|card| card.open().map(|_| ())))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: *const Stream, event: *const Event, _: c_uint) -> c_int {
    code(stream_card(stream).and_then(|card| card.open().map(|_| ())).and_then(|()| read(event).map(|_| ())))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(_: *const Stream, status: *mut c_int) -> c_int {
    code(put(status, 0))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: *mut *mut Event, flags: c_uint) -> c_int {
    let create = || {
        let card = card::current()?;
        drop(card.open()?);
        make(event, Event { card, timed: flags & DISABLE_TIMING == 0, at: Mutex::new(None) })
    };
    code(create())
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: *mut Event) -> c_int {
    code(destroy(event))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: *const Event, stream: *const Stream) -> c_int {
    let record = || {
        let (event, card) = (read(event)?, stream_card(stream)?);
        let mut state = card.open()?;
        if !std::ptr::eq(event.card, card) {
            return Err(state.fail(Code::INVALID_HANDLE, "an event is recorded on another card's stream".into()));
        }
        *event.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    };
    code(record())
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: *const Event) -> c_int {
    code(read(event).and_then(|event| event.card.open().map(|_| ())))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: *const Event) -> c_int {
    cuEventSynchronize(event)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(millis: *mut f32, begin: *const Event, end: *const Event) -> c_int {
    let elapsed = || {
        let at = |event: *const Event| {
            let event = read(event)?;
            let at = *event.at.lock().unwrap_or_else(PoisonError::into_inner);
            at.filter(|_| event.timed).ok_or(Code::INVALID_HANDLE)
        };
        put(millis, at(end)?.saturating_duration_since(at(begin)?).as_secs_f32() * 1e3)
    };
    code(elapsed())
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(module: *mut *mut Module, image: *const c_void) -> c_int {
    let load = || {
        let card = card::current()?;
        drop(card.open()?);
        // SAFETY: code has no 0 among its first bytes, and text ends with one.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        let is_code = CODE.iter().any(|code| text.to_bytes().starts_with(code));
        make(module, Module { card, ptx: (!is_code).then(|| text.to_string_lossy().into_owned()) })
    };
    code(load())
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: *mut Module) -> c_int {
    code(destroy(module))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(function: *mut *mut Function, module: *const Module, name: *const c_char) -> c_int {
    let get = || {
        let module = read(module)?;
        drop(module.card.open()?);
        // SAFETY: a name ends with 0.
        let name = unsafe { CStr::from_ptr(name) }.to_owned();
        let signature = match &module.ptx {
            None => Some(emulation::driver::signature(&name).ok_or(Code::NOT_FOUND)?),
            // A build without candle's kernels has empty modules.
            Some(ptx) if ptx.is_empty() || ptx.contains(&format!(".entry {}(", name.to_string_lossy())) => None,
            Some(_) => return Err(Code::NOT_FOUND),
        };
        make(function, Function { card: module.card, name, signature, shared_bytes: launch::SHARED_BYTES.into() })
    };
    code(get())
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: *const Function, attribute: c_int, value: c_int) -> c_int {
    let set = || {
        // The largest dynamic shared memory.
        if attribute == 8 {
            read(function)?.shared_bytes.store(value.cast_unsigned(), Ordering::Relaxed);
        }
        Ok(())
    };
    code(set())
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(value: *mut c_int, _: c_int, _: *const Function) -> c_int {
    code(put(value, 0))
}

#[unsafe(no_mangle)]
extern "C" fn cuLaunchKernel(
    function: *const Function,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared_bytes: c_uint,
    stream: *const Stream,
    parameters: *const *const c_void,
    _: *const *const c_void,
) -> c_int {
    let launch = || {
        let shape = launch::Shape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared_bytes };
        launch::launch(read(function)?, stream_card(stream)?, &shape, parameters)
    };
    code(launch())
}

fn describe(text: *mut *const c_char) -> c_int {
    code(put(text, c"of the emulated driver".as_ptr()))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(_: c_int, name: *mut *const c_char) -> c_int {
    describe(name)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(_: c_int, text: *mut *const c_char) -> c_int {
    describe(text)
}

not_supported!(Code::NOT_SUPPORTED.0 => cuCtxDestroy_v2, cuMemcpyPeerAsync, cuModuleLoad);
