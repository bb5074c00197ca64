//! Launches of kernels: the runner's by the emulation, candle's by what is written here.

use std::{
    ffi::{CString, c_uint, c_void},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    answer::{Code, Done},
    candle,
    card::{self, Card},
};

/// The dynamic shared memory of a kernel that did not ask for more.
pub const SHARED_BYTES: u32 = 48 << 10;

/// A kernel on a card.
#[derive(Debug)]
pub struct Function {
    pub card: &'static Card,
    pub name: CString,
    /// A letter per parameter of a kernel that the emulation has.
    pub signature: Option<&'static str>,
    pub shared_bytes: AtomicU32,
}

/// How many threads run, and what they share.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared_bytes: c_uint,
}

/// Runs a kernel to its end.
pub fn launch(function: &Function, card: &Card, shape: &Shape, parameters: *const *const c_void) -> Done {
    let mut state = card.open()?;
    state.launches += 1;
    let kernel = function.name.to_string_lossy();
    if !std::ptr::eq(card::current()?, card) || !std::ptr::eq(function.card, card) {
        return Err(state.fail(Code::INVALID_HANDLE, format!("{kernel} is launched on another card than its own")));
    }
    if shape.shared_bytes > function.shared_bytes.load(Ordering::Relaxed) {
        return Err(
            state.fail(Code::INVALID_VALUE, format!("{kernel} has {} bytes of shared memory", shape.shared_bytes))
        );
    }
    let done = match function.signature {
        Some(signature) => {
            for (at, kind) in signature.bytes().enumerate() {
                if kind != b'p' {
                    continue;
                }
                // SAFETY: there is an address of a parameter for each letter.
                let address = unsafe { (*parameters.add(at)).cast::<u64>().read_unaligned() };
                if address != 0 && state.memory.left(address).is_none() {
                    let why = format!("{kernel}: parameter {at}, {address:#x}, is not on card {}", card.ordinal);
                    return Err(state.fail(Code::ILLEGAL_ADDRESS, why));
                }
            }
            // SAFETY: the parameters are those of the kernel, as far as the driver can know.
            unsafe {
                emulation::driver::launch(&function.name, shape.grid, shape.block, shape.shared_bytes, parameters)
            }
        }
        // SAFETY: as above.
        None => unsafe { candle::run(&kernel, &candle::Parameters::new(parameters, &state.memory)) },
    };
    done.map_err(|why| state.fail(Code::ILLEGAL_ADDRESS, why))
}
