//! Launches of kernels: those of the runner by the emulation, those of candle by `candle.rs`.

use std::{
    ffi::{CString, c_uint, c_void},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    candle,
    card::{self, Card},
    status::{CallResult, ErrorCode},
};

/// The limit of a kernel's dynamic shared memory unless it is raised, in bytes.
pub const SHARED_BYTES: u32 = 48 << 10;

/// A kernel on a card.
#[derive(Debug)]
pub struct Function {
    pub card: &'static Card,
    pub name: CString,
    /// A letter per parameter of a kernel of the runner; `None` for one of candle.
    pub signature: Option<&'static str>,
    /// The limit of its dynamic shared memory, in bytes.
    pub shared_bytes: AtomicU32,
}

/// The size of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
}

/// Runs a kernel to its end.
///
/// # Errors
/// The card has failed, or fails now because the launch or the kernel is wrong.
pub fn launch(function: &Function, card: &Card, shape: &Shape, parameters: *const *const c_void) -> CallResult {
    let mut state = card.lock_working()?;
    state.launches += 1;
    let kernel = function.name.to_string_lossy();
    if !std::ptr::eq(card::current()?, card) || !std::ptr::eq(function.card, card) {
        return Err(state.fail(
            ErrorCode::INVALID_HANDLE,
            format!("{kernel} is launched on another card than the one it was loaded for"),
        ));
    }
    if shape.shared_bytes > function.shared_bytes.load(Ordering::Relaxed) {
        return Err(state.fail(
            ErrorCode::INVALID_VALUE,
            format!("{kernel} is launched with {} bytes of shared memory, above its limit", shape.shared_bytes),
        ));
    }
    let result = match function.signature {
        Some(signature) => {
            for (at, kind) in signature.bytes().enumerate() {
                if kind != b'p' {
                    continue;
                }
                // SAFETY: `parameters` has an address for each letter.
                let address = unsafe { (*parameters.add(at)).cast::<u64>().read_unaligned() };
                if address != 0 && state.memory.bytes_from(address).is_none() {
                    let reason = format!(
                        "{kernel}: the address of parameter {at}, {address:#x}, is not allocated on card {}",
                        card.ordinal
                    );
                    return Err(state.fail(ErrorCode::ILLEGAL_ADDRESS, reason));
                }
            }
            // SAFETY: the parameters are those of the kernel, as far as a driver can know.
            unsafe {
                emulation::driver::launch(&function.name, shape.grid, shape.block, shape.shared_bytes, parameters)
            }
        }
        // SAFETY: as above.
        None => unsafe { candle::run(&kernel, &candle::Parameters::new(parameters, &state.memory)) },
    };
    result.map_err(|reason| state.fail(ErrorCode::ILLEGAL_ADDRESS, reason))
}
