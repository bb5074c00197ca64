//! The calls of NVML that the program makes.

use std::{
    env,
    ffi::{CStr, c_char, c_int, c_uint},
};

use crate::card::{self, Card};

const SUCCESS: c_int = 0;
const NOT_FOUND: c_int = 6;
const INVALID_ARGUMENT: c_int = 2;

/// `nvmlMemory_v2_t`.
#[repr(C)]
struct MemoryInfo {
    version: c_uint,
    total: u64,
    reserved: u64,
    free: u64,
    used: u64,
}

/// Bytes of a card that the driver reserves for itself.
const RESERVED: u64 = 64 << 20;

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> c_int {
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> c_int {
    let text = c"580.0".to_bytes_with_nul();
    if (length as usize) < text.len() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: the caller has room for it.
    unsafe { text.as_ptr().copy_to(version.cast(), text.len()) };
    SUCCESS
}

/// The UUID of a card, as NVML writes it.
fn uuid(card: &Card) -> String {
    let hex: Vec<String> = card.uuid().iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [&hex[..4], &hex[4..6], &hex[6..8], &hex[8..10], &hex[10..]].map(<[String]>::concat);
    let kind = if env::var_os("EMULATED_MIG").is_some() { "MIG" } else { "GPU" };
    format!("{kind}-{}", parts.join("-"))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(name: *const c_char, device: *mut *const Card) -> c_int {
    // SAFETY: the name ends with 0.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    let Some(card) = card::all().iter().find(|card| uuid(card) == name) else { return NOT_FOUND };
    // SAFETY: the caller has room for a handle.
    unsafe { device.write(card) };
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: *const Card, info: *mut MemoryInfo) -> c_int {
    // SAFETY: a handle from above, or null.
    let Some(card) = (unsafe { device.as_ref() }) else { return INVALID_ARGUMENT };
    let used = card.used(&card.lock());
    let version = (size_of::<MemoryInfo>() | 2 << 24) as c_uint;
    let total = card.total + RESERVED;
    let memory = MemoryInfo { version, total, reserved: RESERVED, free: card.total.saturating_sub(used), used };
    // SAFETY: the caller has room for it.
    unsafe { info.write(memory) };
    SUCCESS
}
