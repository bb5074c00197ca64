//! The local disk space of a shard while it is embedded: its chunks, and the vectors of each pass, so that memory does not
//! grow with the shard. The files have no name, and the system frees them when the process ends.
//!
//! Vectors can be read while they are written ([`growing`]).

mod chunks;
mod columns;
mod file;
mod growing;
mod sparse_vectors;
mod vectors;

pub use self::{
    chunks::{ChunkFile, Chunks},
    columns::{SparseColumn, VectorColumn},
    sparse_vectors::{SparseFile, SparseReader, SparseSource, SparseVectors},
    vectors::{VectorFile, VectorReader, Vectors},
};
