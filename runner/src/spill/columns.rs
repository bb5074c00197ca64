//! The vector columns of a shard: a name, the spilled rows, and the precision in the output.

use crds::{
    fingerprint::{ColumnFingerprint, SparseFingerprint},
    v1alpha1::Precision,
};

use super::{SparseVectors, Vectors};

/// A dense vector column.
#[derive(Clone)]
pub struct VectorColumn {
    /// The name of the model, or of the fused vector.
    pub name: String,
    /// One row per chunk.
    pub vectors: Vectors,
    /// The precision of the vectors in the output.
    pub precision: Precision,
    /// What makes the vectors.
    pub fingerprint: ColumnFingerprint,
}

/// The columns of a sparse model.
#[derive(Clone)]
pub struct SparseColumn {
    /// The name of the model, and the prefix of the names of its columns.
    pub name: String,
    /// One vector per chunk.
    pub vectors: SparseVectors,
    /// What makes the vectors.
    pub fingerprint: SparseFingerprint,
}

impl SparseColumn {
    /// The name of one of its three columns; `part` is `indices`, `values` or `source`.
    pub fn column_name(&self, part: &str) -> String {
        format!("{}_{part}", self.name)
    }
}
