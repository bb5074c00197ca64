//! Kernels by their names, as a driver has them: without the types of their parameters.

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

/// A letter per parameter of a kernel: `p` for an address, `i`, `l` and `f` for numbers. `None` if there is no such kernel.
pub fn signature(name: &CStr) -> Option<&'static str> {
    // SAFETY: both names end with 0, and the answer is a constant.
    let signature = unsafe {
        let signature = embedrun_emulation_signature(name.as_ptr());
        (!signature.is_null()).then(|| CStr::from_ptr(signature))
    };
    signature.and_then(|signature| signature.to_str().ok())
}

/// Runs a kernel to its end, or says what is wrong with the launch.
///
/// # Safety
/// There is the address of a value for every parameter of the kernel, of its type, and the kernel stays in memory that
/// is there.
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

/// [`launch`] of a kernel of this source, whose parameters are of these `kinds`.
///
/// # Safety
/// As of [`launch`], for the parameters that `kinds` has.
pub(crate) unsafe fn run(
    source: Option<&CStr>,
    name: &CStr,
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    parameters: *const *const c_void,
    kinds: Option<&CStr>,
) -> Result<(), String> {
    let of = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    let mut message = [0u8; 1024];
    // SAFETY: the caller's promise; there is room for the message.
    let done = unsafe {
        embedrun_emulation_run(
            of(source),
            name.as_ptr(),
            grid.as_ptr(),
            block.as_ptr(),
            shared_bytes,
            parameters,
            of(kinds),
            message.as_mut_ptr().cast(),
            message.len(),
        )
    };
    if done {
        return Ok(());
    }
    let message = CStr::from_bytes_until_nul(&message).map_err(|error| error.to_string())?;
    Err(message.to_string_lossy().into_owned())
}
