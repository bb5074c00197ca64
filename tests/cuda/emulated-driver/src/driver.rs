//! The calls of the driver that the program makes, except those for memory.

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_void},
    sync::{Mutex, PoisonError, atomic::Ordering},
    time::Instant,
};

use crate::{
    card::{self, Card},
    launch::{self, Function},
    status::{CallResult, ErrorCode, not_supported, status},
};

/// The first bytes of a module of machine code: a fat binary or an ELF file.
const MACHINE_CODE: [[u8; 4]; 2] = [[0x50, 0xed, 0x55, 0xba], *b"\x7fELF"];
/// The flag of an event that measures no time.
const DISABLE_TIMING: c_uint = 2;

/// A queue of work. A call runs its work before it returns, so the queue is always empty.
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
    /// The PTX of a module of candle; `None` for the machine code of the runner.
    ptx: Option<String>,
}

/// The card of a stream; the null stream is that of the current context.
pub fn stream_card(stream: *const Stream) -> CallResult<&'static Card> {
    // SAFETY: a stream is null, or made by `cuStreamCreate`.
    unsafe { stream.as_ref() }.map_or_else(card::current, |stream| Ok(stream.card))
}

/// Writes an output parameter.
pub fn write_out<T>(to: *mut T, value: T) -> CallResult {
    if to.is_null() {
        return Err(ErrorCode::INVALID_VALUE);
    }
    // SAFETY: the caller has room for it.
    unsafe { to.write(value) };
    Ok(())
}

/// The object of a handle.
pub fn object<T>(handle: *const T) -> CallResult<&'static T> {
    // SAFETY: a handle is null, or made here and not destroyed.
    unsafe { handle.as_ref() }.ok_or(ErrorCode::INVALID_HANDLE)
}

fn destroy<T: 'static>(handle: *mut T) -> CallResult {
    object(handle)?;
    // SAFETY: `create` has made it.
    drop(unsafe { Box::from_raw(handle) });
    Ok(())
}

fn create<T>(to: *mut *mut T, value: T) -> CallResult {
    write_out(to, Box::into_raw(Box::new(value)))
}

pub fn copy_bytes(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller has checked the memory of the card; the memory of the host is the program's promise.
    unsafe { std::ptr::copy(from, to, bytes) };
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_: c_uint) -> c_int {
    if card::all().is_empty() { ErrorCode::NO_DEVICE.0 } else { 0 }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: *mut c_int) -> c_int {
    status(write_out(count, card::all().len() as c_int))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: *mut c_int, ordinal: c_int) -> c_int {
    status(card::by_ordinal(ordinal).and_then(|_| write_out(device, ordinal)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetName(name: *mut c_char, length: c_int, device: c_int) -> c_int {
    let write = || {
        card::by_ordinal(device)?;
        let text = c"emulated".to_bytes_with_nul();
        if (length as usize) < text.len() {
            return Err(ErrorCode::INVALID_VALUE);
        }
        copy_bytes(text.as_ptr(), name.cast(), text.len());
        Ok(())
    };
    status(write())
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) -> c_int {
    status(card::by_ordinal(device).and_then(|card| write_out(uuid, card.uuid())))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) -> c_int {
    status(card::by_ordinal(device).and_then(|card| write_out(bytes, card.total as usize)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> c_int {
    let number = match attribute {
        1 => 1024, // threads of a block
        10 => 32,  // threads of a warp
        16 => 16,  // processors
        75 => 9,   // compute capability, the first number
        115 => c_int::from(card::has_pools()),
        _ => 0,
    };
    status(card::by_ordinal(device).and_then(|_| write_out(value, number)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *const Card, device: c_int) -> c_int {
    let retain = || {
        let card = card::by_ordinal(device)?;
        card.lock_working()?.has_context = true;
        write_out(context, std::ptr::from_ref(card))
    };
    status(retain())
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    status(card::by_ordinal(device).map(|_| ()))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: *const Card) -> c_int {
    // SAFETY: null, or the address of a card.
    card::make_current(unsafe { context.as_ref() });
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: *mut *const Card) -> c_int {
    status(write_out(context, card::current().map_or(std::ptr::null(), std::ptr::from_ref)))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> c_int {
    status(card::current().and_then(|card| card.lock_working().map(|_| ())))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(stream: *mut *mut Stream, _: c_uint) -> c_int {
    status(
        card::current()
            .and_then(|card| card.lock_working().map(|_| card))
            .and_then(|card| create(stream, Stream { card })),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(stream: *mut Stream) -> c_int {
    status(destroy(stream))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(stream: *const Stream) -> c_int {
    status(stream_card(stream).and_then(|card| card.lock_working().map(|_| ())))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(stream: *const Stream, event: *const Event, _: c_uint) -> c_int {
    status(
        stream_card(stream).and_then(|card| card.lock_working().map(|_| ())).and_then(|()| object(event).map(|_| ())),
    )
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(_: *const Stream, capture: *mut c_int) -> c_int {
    status(write_out(capture, 0))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(event: *mut *mut Event, flags: c_uint) -> c_int {
    let create_event = || {
        let card = card::current()?;
        drop(card.lock_working()?);
        create(event, Event { card, timed: flags & DISABLE_TIMING == 0, at: Mutex::new(None) })
    };
    status(create_event())
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(event: *mut Event) -> c_int {
    status(destroy(event))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(event: *const Event, stream: *const Stream) -> c_int {
    let record = || {
        let (event, card) = (object(event)?, stream_card(stream)?);
        let mut state = card.lock_working()?;
        if !std::ptr::eq(event.card, card) {
            return Err(
                state.fail(ErrorCode::INVALID_HANDLE, "an event of one card is recorded on a stream of another".into())
            );
        }
        *event.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    };
    status(record())
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(event: *const Event) -> c_int {
    status(object(event).and_then(|event| event.card.lock_working().map(|_| ())))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(event: *const Event) -> c_int {
    cuEventSynchronize(event)
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(millis: *mut f32, begin: *const Event, end: *const Event) -> c_int {
    let elapsed = || {
        let at = |event: *const Event| {
            let event = object(event)?;
            let at = *event.at.lock().unwrap_or_else(PoisonError::into_inner);
            at.filter(|_| event.timed).ok_or(ErrorCode::INVALID_HANDLE)
        };
        write_out(millis, at(end)?.saturating_duration_since(at(begin)?).as_secs_f32() * 1e3)
    };
    status(elapsed())
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleLoadData(module: *mut *mut Module, image: *const c_void) -> c_int {
    let load = || {
        let card = card::current()?;
        drop(card.lock_working()?);
        // SAFETY: machine code has no 0 among its first bytes, and PTX ends with one.
        let text = unsafe { CStr::from_ptr(image.cast()) };
        let is_code = MACHINE_CODE.iter().any(|magic| text.to_bytes().starts_with(magic));
        create(module, Module { card, ptx: (!is_code).then(|| text.to_string_lossy().into_owned()) })
    };
    status(load())
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: *mut Module) -> c_int {
    status(destroy(module))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleGetFunction(function: *mut *mut Function, module: *const Module, name: *const c_char) -> c_int {
    let get = || {
        let module = object(module)?;
        drop(module.card.lock_working()?);
        // SAFETY: a name ends with 0.
        let name = unsafe { CStr::from_ptr(name) }.to_owned();
        let signature = match &module.ptx {
            None => Some(emulation::driver::signature(&name).ok_or(ErrorCode::NOT_FOUND)?),
            // A build without candle's kernels has empty modules.
            Some(ptx) if ptx.is_empty() || ptx.contains(&format!(".entry {}(", name.to_string_lossy())) => None,
            Some(_) => return Err(ErrorCode::NOT_FOUND),
        };
        create(function, Function { card: module.card, name, signature, shared_bytes: launch::SHARED_BYTES.into() })
    };
    status(get())
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: *const Function, attribute: c_int, value: c_int) -> c_int {
    let set = || {
        // The limit of the dynamic shared memory.
        if attribute == 8 {
            object(function)?.shared_bytes.store(value.cast_unsigned(), Ordering::Relaxed);
        }
        Ok(())
    };
    status(set())
}

#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(value: *mut c_int, _: c_int, _: *const Function) -> c_int {
    status(write_out(value, 0))
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
        launch::launch(object(function)?, stream_card(stream)?, &shape, parameters)
    };
    status(launch())
}

fn describe(text: *mut *const c_char) -> c_int {
    status(write_out(text, c"error of the emulated driver".as_ptr()))
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(_: c_int, name: *mut *const c_char) -> c_int {
    describe(name)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(_: c_int, text: *mut *const c_char) -> c_int {
    describe(text)
}

not_supported!(ErrorCode::NOT_SUPPORTED.0 => cuCtxDestroy_v2, cuMemcpyPeerAsync, cuModuleLoad);
