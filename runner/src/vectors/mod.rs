//! Vectors as plain data: dense rows and sparse vectors, their fusion, and their quantized forms.

pub mod fusion;
pub mod quantize;
mod rows;
mod sparse;

pub use rows::Rows;
pub use sparse::SparseVector;
