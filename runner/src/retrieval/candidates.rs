//! The candidates of every query in one shard, by retriever.

use crds::v1alpha1::Similarity;
use serde::{Deserialize, Serialize};

use super::{
    exact::{self, DenseVectors, SearchOptions},
    top_k::Candidate,
};
use crate::{
    pass::{DenseOutput, SparseOutput},
    process::error::Result,
    spill::{Chunks, VectorColumn},
    vectors::{
        Rows,
        fusion::{self, VectorFusion},
    },
};

/// A retriever: a stage, and the model whose vectors it compares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retriever {
    /// `dense`, `sparse` or `fused`.
    pub stage: String,
    /// The name of the model; `None` for the fused vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// The candidates of one retriever: a list per query.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateLists {
    /// The retriever.
    pub retriever: Retriever,
    /// One list per query, in the order of the queries; the best candidate first.
    pub lists: Vec<Vec<Candidate>>,
}

/// The fused vectors of a shard.
pub struct FusedVectors<'a> {
    /// The fusion; the vectors of the queries are fused in the same way.
    pub fusion: &'a VectorFusion,
    /// The column.
    pub column: &'a VectorColumn,
}

/// Finds the best chunks of a shard for every query, with every retriever that has vectors of the chunks and of the
/// queries. Vectors are compared in their stored form and by the similarity of their model. `first` is the ordinal of the shard's first chunk in the collection.
///
/// # Errors
/// If the vectors cannot be read, the device fails, or the run is interrupted.
pub fn find(
    chunks: &Chunks,
    first: u64,
    dense: &[DenseOutput],
    fused: Option<&FusedVectors<'_>>,
    sparse: &[SparseOutput],
    options: SearchOptions<'_>,
) -> Result<Vec<CandidateLists>> {
    let retriever = |stage: &str, model: Option<&str>| Retriever { stage: stage.into(), model: model.map(Into::into) };
    let count = chunks.count();
    let mut candidates = Vec::new();
    for output in dense {
        let vectors = compared(&output.column, output.record.similarity);
        let lists = exact::dense(vectors, count, first, &output.query_vectors, options)?;
        candidates.push(CandidateLists { retriever: retriever("dense", Some(&output.column.name)), lists });
    }
    if let Some(fused) = fused {
        let models: Vec<Rows> = dense.iter().map(|output| output.query_vectors.clone()).collect();
        let queries = fused.fusion.fuse(&models);
        let vectors = compared(fused.column, fusion::SIMILARITY);
        let lists = exact::dense(vectors, count, first, &queries, options)?;
        candidates.push(CandidateLists { retriever: retriever(fusion::COLUMN, None), lists });
    }
    for output in sparse {
        if let (Some(column), Some(queries), Some(record)) = (&output.column, &output.query_vectors, &output.record) {
            let lists = exact::sparse(&column.vectors, record.similarity, count, first, queries, options)?;
            candidates.push(CandidateLists { retriever: retriever("sparse", Some(&column.name)), lists });
        }
    }
    Ok(candidates)
}

/// The vectors of a column in their stored form.
fn compared(column: &VectorColumn, similarity: Similarity) -> DenseVectors<'_> {
    DenseVectors { vectors: &column.vectors, precision: column.precision, similarity }
}
