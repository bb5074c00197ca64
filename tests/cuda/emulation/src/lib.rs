//! Runs the CUDA kernels on the CPU.
//!
//! The sources of the kernels are compiled as C++ against a small emulation of CUDA, whose threads are fibers. It is
//! made to find mistakes, not to be fast: see `include/emulation.h` for what it notices.
//!
//! With the feature `card` the same launches and buffers are those of the first card of the machine.

// The kernels are called by their names in C, and work on memory that Rust does not see them change.
#![allow(unsafe_code)]

#[cfg(not(feature = "card"))]
use std::ffi::CString;
use std::fmt::Debug;

use kernels::cuda::{Argument, Element, Launch};

mod buffer;
#[cfg(feature = "card")]
mod card;
pub mod driver;
#[cfg(not(feature = "card"))]
mod host;
pub mod test;

pub use buffer::{Buffer, Plain};

/// Runs a launch to its end.
///
/// # Panics
/// If the launch or what the kernel does is wrong; see [`try_run`].
pub fn run(launch: &Launch) {
    if let Err(message) = try_run(launch) {
        panic!("{message}");
    }
}

/// Runs a launch to its end, or says what is wrong with it: an unknown kernel or one of another source, arguments of other types than its
/// parameters, an address outside of all buffers, threads that wait for others in vain, writes next to the buffers.
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
    let kinds: Vec<u8> = launch.arguments.iter().map(kind).collect();
    let kinds = CString::new(kinds).map_err(|error| error.to_string())?;
    // SAFETY: the parameters are of the types that `kinds` says, which the callee compares with those of the kernel.
    // The kernel is trusted to stay in its buffers; their surroundings show when it did not.
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

#[cfg(not(feature = "card"))]
fn kind(argument: &Argument) -> u8 {
    match argument {
        Argument::Address(_) => b'p',
        Argument::I32(_) => b'i',
        Argument::I64(_) => b'l',
        Argument::F32(_) => b'f',
    }
}

/// A type of activations and weights.
pub trait Real: Plain + Debug {
    /// Its name among the kernels.
    const ELEMENT: Element;

    /// The nearest value.
    fn of(value: f32) -> Self;

    /// The value, exactly.
    fn to_f32(self) -> f32;
}

impl Real for f32 {
    const ELEMENT: Element = Element::F32;

    fn of(value: f32) -> Self {
        value
    }

    fn to_f32(self) -> f32 {
        self
    }
}

impl Real for half::f16 {
    const ELEMENT: Element = Element::F16;

    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

impl Real for half::bf16 {
    const ELEMENT: Element = Element::Bf16;

    fn of(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}
