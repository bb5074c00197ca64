//! Vectors as plain data: dense rows and sparse vectors, their fusion, and the forms in which they are stored.

pub mod fusion;
pub mod quantize;
mod rows;
mod sparse;

pub use rows::Rows;
pub use sparse::SparseVector;
