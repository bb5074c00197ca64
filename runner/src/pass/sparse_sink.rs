//! The sink of a sparse pass: rows of the model, and metadata terms in place of rows that failed.

use std::collections::BTreeMap;

use crds::v1alpha1::{FallbackReason, FallbackSource};

use super::splade_rows::SparseRow;
use crate::{
    model::MetadataTerms,
    process::{error::Result, metrics::METRICS},
    source::Chunk,
    spill::{Chunks, SparseFile, SparseSource, SparseVectors},
};

/// The number of rows by origin.
#[derive(Default)]
pub(super) struct RowCounts {
    /// Rows that the model computed.
    pub(super) model: u64,
    /// Rows that were made from metadata terms.
    pub(super) metadata: u64,
    /// Terms of all rows.
    pub(super) entries: u64,
    /// By reason: rows that the model failed to compute, and the first error.
    pub(super) failed: BTreeMap<FallbackReason, (u64, String)>,
}

/// Writes the rows of a pass, in the order of the chunks, to a spill file.
pub(super) struct SparseSink<'a> {
    file: SparseFile,
    chunks: Box<dyn Iterator<Item = Result<Chunk>> + 'a>,
    terms: Option<MetadataTerms>,
    counts: RowCounts,
}

impl<'a> SparseSink<'a> {
    /// A sink for one row per chunk. With `terms`, the metadata terms of a chunk replace a row that the model failed to
    /// compute.
    ///
    /// # Errors
    /// If the spill file cannot be created.
    pub(super) fn new(chunks: &'a Chunks, terms: Option<MetadataTerms>) -> Result<Self> {
        Ok(Self { file: SparseFile::new()?, chunks: Box::new(chunks.iter()), terms, counts: RowCounts::default() })
    }

    /// The vectors, readable while they are written.
    pub(super) fn vectors(&self) -> SparseVectors {
        self.file.vectors()
    }

    /// Writes the next rows, and makes them readable.
    ///
    /// # Errors
    /// If the disk fails, or the metadata of a chunk cannot be tokenized.
    pub(super) fn push(&mut self, rows: Vec<SparseRow>) -> Result<()> {
        rows.into_iter().try_for_each(|row| self.push_row(row))?;
        self.file.flush()
    }

    /// Ends the file.
    pub(super) fn finish(self) -> RowCounts {
        self.counts
    }

    fn push_row(&mut self, row: SparseRow) -> Result<()> {
        let chunk = self.chunks.next().transpose()?;
        let (source, vector) = match row {
            SparseRow::Vector(vector) => {
                self.counts.model += 1;
                (SparseSource::Model, vector)
            }
            SparseRow::Missing(reason, message) => {
                METRICS.fallback("sparse", reason, FallbackSource::Runtime, 1);
                let (failed_rows, _) = self.counts.failed.entry(reason).or_insert((0, message));
                *failed_rows += 1;
                self.counts.metadata += 1;
                let metadata = chunk.as_ref().map_or("", |chunk| &chunk.metadata);
                let vector = self.terms.as_ref().map(|terms| terms.vector(metadata)).transpose()?;
                (SparseSource::Metadata, vector.unwrap_or_default())
            }
        };
        self.counts.entries += vector.indices.len() as u64;
        self.file.push(source, &vector)
    }
}
