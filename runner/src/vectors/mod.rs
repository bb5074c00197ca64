//! Vectors as plain data: dense rows and sparse vectors, their fusion, their quantized forms, and how they are compared.

pub mod fusion;
pub mod quantize;
mod rows;
pub mod similarity;
mod sparse;

pub use rows::Rows;
pub use sparse::SparseVector;
