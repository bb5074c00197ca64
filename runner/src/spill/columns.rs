//! The columns of a shard: a name, the rows that a pass spills, and the form in which they are stored.

use crds::v1alpha1::Precision;

use super::{SparseVectors, Vectors};

/// A dense vector column.
#[derive(Clone)]
pub struct VectorColumn {
    /// The name of the model, or of the fused vector.
    pub name: String,
    /// One row per chunk.
    pub vectors: Vectors,
    /// The form in which the vectors are stored.
    pub precision: Precision,
}

/// The columns of a sparse model.
#[derive(Clone)]
pub struct SparseColumn {
    /// The name of the model, and the prefix of the names of its columns.
    pub name: String,
    /// One vector per chunk.
    pub vectors: SparseVectors,
}

impl SparseColumn {
    /// The name of one of its columns: `indices`, `values` or `source`.
    pub fn part(&self, part: &str) -> String {
        format!("{}_{part}", self.name)
    }
}
