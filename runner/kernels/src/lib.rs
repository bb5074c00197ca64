//! CPU kernels over plain slices, single-threaded, and launch builders for the CUDA kernels.
//!
//! Every CPU kernel is written once over [`pulp::Simd`] and compiled for each instruction set; [`arch`] picks the widest
//! one of the processor at run time. No kernel starts a thread: a pass runs one worker per core, each over batches of its
//! own, which is faster and takes less memory than threads inside an operation.
//!
//! The kernels are a crate of their own so that a development build optimises them and nothing else of the runner.

// A function that is not inlined into a kernel, even of the standard library, is compiled for the oldest processor.
#![allow(clippy::inline_always, clippy::manual_slice_fill, clippy::needless_range_loop)]

mod activation;
pub mod attention;
pub mod cuda;
pub mod form;
pub mod int8;
pub mod math;
pub mod matmul;
pub mod norm;
mod prefetch;
#[cfg(test)]
mod random;
pub mod rows;
pub mod simd;

pub use activation::Activation;
pub use simd::arch;
