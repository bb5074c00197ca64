//! Kernels for the CPU: plain slices in, plain slices out, one thread each.
//!
//! Every kernel is written once over [`pulp::Simd`] and compiled for each instruction set; [`arch`] picks the widest
//! that the processor has when the program runs. A pass runs one worker per core over batches of its own, which is
//! faster and takes less memory than threads inside an operation, so no kernel starts any.
//!
//! The kernels are a crate of their own so that a development build can optimise them and nothing else of the runner.

// What is not inlined into a kernel, functions of the standard library too, is compiled for the oldest processor.
#![allow(clippy::inline_always, clippy::manual_slice_fill, clippy::needless_range_loop)]

mod activation;
pub mod attention;
pub mod cuda;
pub mod int8;
pub mod math;
pub mod matmul;
pub mod norm;
mod packed;
mod prefetch;
pub mod rows;

pub use activation::Activation;

/// The widest instruction set of this processor.
#[inline]
pub fn arch() -> pulp::Arch {
    pulp::Arch::new()
}
