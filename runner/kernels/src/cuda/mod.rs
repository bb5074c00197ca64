//! Launch builders for the CUDA kernels: for each operation the kernel's name, grid, block and arguments.
//!
//! The builders do not need CUDA. The sources of the kernels are in `cuda/` of this crate. Tests run a [`Launch`] on a CPU
//! emulation of the kernels, the runner runs the same [`Launch`] on the CUDA driver.
//!
//! A builder returns `None` if there is nothing to compute: a launch never has an empty grid.

pub mod activation;
pub mod attention;
#[cfg(feature = "cuda")]
pub mod driver;
mod element;
pub mod embedding;
mod launch;
pub mod norm;
pub mod pooling;
pub mod rotary;
mod row_access;
pub mod top_k;
pub mod vocabulary;

pub use self::{
    element::Element,
    launch::{Address, Argument, Launch},
};
