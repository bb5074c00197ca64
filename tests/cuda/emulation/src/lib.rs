//! Runs the CUDA kernels on the CPU.
//!
//! `build.rs` compiles the sources of the kernels as C++ against a small emulation of CUDA, whose threads are fibers. It
//! is made to find mistakes, not to be fast: `include/emulation.h` lists the mistakes that it reports.
//!
//! With the feature `card` the same launches and buffers use the first card of the machine instead.

// The kernels are called by their names in C, and work on memory that Rust does not see them change.
#![allow(unsafe_code)]

#[cfg(not(feature = "card"))]
use std::ffi::CString;

use kernels::cuda::{Argument, Launch};

mod buffer;
#[cfg(feature = "card")]
mod card;
pub mod driver;
#[cfg(not(feature = "card"))]
mod host_memory;
mod real;
pub mod test;

pub use buffer::{Buffer, Plain};
pub use real::Real;

/// Runs a launch to its end.
///
/// # Panics
/// If the launch or the kernel is wrong; see [`try_run`].
pub fn run(launch: &Launch) {
    if let Err(message) = try_run(launch) {
        panic!("{message}");
    }
}

/// Runs a launch to its end.
///
/// # Errors
/// An unknown kernel or one of another source file, arguments of other types than the kernel's parameters, a grid or a
/// block of an invalid size, an address outside of all buffers, threads that wait for others in vain, an access that is
/// not aligned, or a write next to the buffers or to shared memory.
pub fn try_run(launch: &Launch) -> Result<(), String> {
    let kernel = &launch.kernel;
    let addresses = || {
        launch.arguments.iter().filter_map(|argument| match argument {
            Argument::Address(address) if address.is_present() => Some(*address),
            _ => None,
        })
    };
    for address in addresses() {
        buffer::check(address).map_err(|error| format!("{kernel}: {error}"))?;
    }
    #[cfg(feature = "card")]
    card::run(launch)?;
    #[cfg(not(feature = "card"))]
    emulate(launch)?;
    for address in addresses() {
        buffer::check(address).map_err(|error| format!("{kernel}: {error}"))?;
    }
    Ok(())
}

/// Runs a launch by the emulation.
#[cfg(not(feature = "card"))]
fn emulate(launch: &Launch) -> Result<(), String> {
    let source = CString::new(launch.source).map_err(|error| error.to_string())?;
    let name = CString::new(launch.kernel.as_str()).map_err(|error| error.to_string())?;
    let kinds: Vec<u8> = launch.arguments.iter().map(type_letter).collect();
    let kinds = CString::new(kinds).map_err(|error| error.to_string())?;
    // SAFETY: the parameters have the types of `kinds`, which the callee compares with the kernel's signature. That the
    // kernel stays in its buffers is checked afterwards, by the zones around them.
    unsafe {
        let parameters = launch.parameters();
        driver::run(
            Some(&source),
            &name,
            launch.grid,
            launch.block,
            launch.shared_bytes,
            parameters.as_ptr(),
            Some(&kinds),
        )
    }
}

/// The letter of an argument's type in a signature.
#[cfg(not(feature = "card"))]
fn type_letter(argument: &Argument) -> u8 {
    match argument {
        Argument::Address(_) => b'p',
        Argument::I32(_) => b'i',
        Argument::I64(_) => b'l',
        Argument::F32(_) => b'f',
    }
}
