//! Launches of kernels by name alone, as a driver receives them: without the types of the parameters.

use std::ffi::{CStr, c_char, c_void};

unsafe extern "C" {
    fn embedrun_emulation_signature(name: *const c_char) -> *const c_char;
    fn embedrun_emulation_run(
        source: *const c_char,
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: u32,
        parameters: *const *const c_void,
        kinds: *const c_char,
        message: *mut c_char,
        capacity: usize,
    ) -> bool;
}

/// A letter per parameter of a kernel: `p` for an address, `i` for 32-bit integers, `l` for 64-bit ones, `f` for f32.
/// `None` if no kernel has this name.
pub fn signature(name: &CStr) -> Option<&'static str> {
    // SAFETY: the name ends with 0, and the signature is a constant.
    let signature = unsafe {
        let signature = embedrun_emulation_signature(name.as_ptr());
        (!signature.is_null()).then(|| CStr::from_ptr(signature))
    };
    signature.and_then(|signature| signature.to_str().ok())
}

/// Runs a kernel to its end.
///
/// # Errors
/// A mistake in the launch or in the kernel, as [`crate::try_run`] lists them.
///
/// # Safety
/// `parameters` holds the address of a value of the right type for every parameter of the kernel, and the kernel stays
/// within allocated memory.
pub unsafe fn launch(
    name: &CStr,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    parameters: *const *const c_void,
) -> Result<(), String> {
    // SAFETY: the caller's promise.
    unsafe { run(None, name, grid, block, shared_bytes, parameters, None) }
}

/// As [`launch`], and checks that the kernel is in the file `source` and that `kinds` is its signature.
///
/// # Safety
/// As [`launch`], for the parameters that `kinds` lists.
pub(crate) unsafe fn run(
    source: Option<&CStr>,
    name: &CStr,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    parameters: *const *const c_void,
    kinds: Option<&CStr>,
) -> Result<(), String> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    let mut message = [0u8; 1024];
    // SAFETY: the caller's promise; the message has `len` bytes.
    let succeeded = unsafe {
        embedrun_emulation_run(
            pointer(source),
            name.as_ptr(),
            grid.as_ptr(),
            block.as_ptr(),
            shared_bytes,
            parameters,
            pointer(kinds),
            message.as_mut_ptr().cast(),
            message.len(),
        )
    };
    if succeeded {
        return Ok(());
    }
    let message = CStr::from_bytes_until_nul(&message).map_err(|error| error.to_string())?;
    Err(message.to_string_lossy().into_owned())
}
