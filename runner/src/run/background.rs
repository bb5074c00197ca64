//! Fuses and writes a shard's rows on background threads while the last model computes, so that the GPU is never held
//! for CPU work.

use std::thread::{Scope, ScopedJoinHandle};

use crds::{
    contract::FailureReason,
    fingerprint::{ColumnFingerprint, FusedFingerprint},
    summary::{FusedModel, FusionRun},
};

use super::Run;
use crate::{
    export::{self, Columns, ExportedFile, ShardName},
    process::{
        error::{Result, StageError},
        telemetry,
    },
    spill::{Chunks, SparseColumn, VectorColumn, VectorFile, VectorReader},
    vectors::{
        Rows,
        fusion::{self, VectorFusion},
        quantize,
    },
};

/// Rows per step of the fusion.
const FUSED_ROWS: u64 = 1024;

/// The fused column of a shard.
pub struct FusedOutput {
    /// The fusion.
    pub fusion: VectorFusion,
    /// The column.
    pub column: VectorColumn,
    /// The record of the fusion for the summary.
    pub record: FusionRun,
}

/// The shard that is being embedded, and the path at which its file is written.
#[derive(Clone, Copy)]
pub struct ShardTarget<'env> {
    /// The run.
    pub run: &'env Run,
    /// The index of the shard.
    pub index: u32,
    /// Its name in the footer of its file.
    pub name: ShardName<'env>,
    /// The number of its first chunk in the collection.
    pub first_chunk: u64,
    /// Its chunks.
    pub chunks: &'env Chunks,
    /// The path of its file until it is complete, relative to the root of the output.
    pub part: &'env str,
}

/// The background threads of a shard. Each starts as soon as its columns are known, before the vectors of the last
/// column are computed.
pub struct BackgroundWork<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    target: ShardTarget<'env>,
    fusing: Option<Fusing<'scope>>,
    writing: Option<ScopedJoinHandle<'scope, Result<ExportedFile>>>,
}

/// A running fusion; `None` if there is nothing to fuse.
type Fusing<'scope> = Option<(FusedOutput, ScopedJoinHandle<'scope, Result<f64>>)>;

impl<'scope, 'env> BackgroundWork<'scope, 'env> {
    /// No threads yet.
    pub fn new(scope: &'scope Scope<'scope, 'env>, target: ShardTarget<'env>) -> Self {
        Self { scope, target, fusing: None, writing: None }
    }

    /// Starts to fuse the dense columns, each with its weight, unless the fusion has started.
    ///
    /// # Errors
    /// If the fused vector is too wide, or a temporary file cannot be created.
    pub fn fuse(&mut self, dense: &[(f64, VectorColumn)]) -> Result<()> {
        if self.fusing.is_none() {
            self.fusing = Some(self.fusion(dense)?);
        }
        Ok(())
    }

    fn fusion(&self, dense: &[(f64, VectorColumn)]) -> Result<Fusing<'scope>> {
        let (run, chunks) = (self.target.run, self.target.chunks.count());
        let models: Vec<(f64, usize)> =
            dense.iter().map(|(weight, column)| (*weight, column.vectors.dimensions())).collect();
        let Some(fusion) = VectorFusion::of(run.config.fusion.method, &models) else { return Ok(None) };
        fusion.check_width()?;
        let mut file = VectorFile::new(fusion.dimensions())?;
        let share = |((_, column), share): (&(f64, VectorColumn), &f64)| FusedModel {
            model: column.name.clone(),
            share: *share,
        };
        // As fine as the finest of its models: no model loses more in the fused vector than in its own.
        let precision = quantize::finest(dense.iter().map(|(_, column)| column.precision));
        let made_by = FusedFingerprint {
            column: fusion::COLUMN.into(),
            method: fusion.method(),
            models: dense.iter().zip(fusion.shares()).map(share).collect(),
            dimensions: fusion.dimensions() as u32,
            precision,
            similarity: fusion::SIMILARITY,
        };
        let record = FusionRun {
            column: made_by.column.clone(),
            method: format!("{:?}", made_by.method),
            models: made_by.models.clone(),
            dimensions: made_by.dimensions,
            precision: format!("{precision:?}"),
            similarity: made_by.similarity,
            seconds: 0.0,
        };
        let column = VectorColumn {
            name: fusion::COLUMN.into(),
            vectors: file.vectors(),
            precision,
            fingerprint: ColumnFingerprint::Fused(made_by),
        };
        let mut readers: Vec<VectorReader> = dense.iter().map(|(_, column)| column.vectors.reader()).collect();
        let span = tracing::info_span!(telemetry::FUSION);
        let output = FusedOutput { fusion: fusion.clone(), column, record };
        let fuse = move || {
            let (fused, seconds) = telemetry::timed(span, || -> Result<()> {
                let mut remaining = chunks;
                while remaining > 0 {
                    run.interrupt.check()?;
                    let count = remaining.min(FUSED_ROWS) as usize;
                    let rows: Vec<Rows> = readers.iter_mut().map(|reader| reader.read(count)).collect::<Result<_>>()?;
                    file.push(&fusion.fuse(&rows))?;
                    remaining -= count as u64;
                }
                Ok(())
            });
            let waited: f64 = readers.iter().map(|reader| reader.waited().as_secs_f64()).sum();
            fused.map(|()| (seconds - waited).max(0.0))
        };
        Ok(Some((output, self.scope.spawn(fuse))))
    }

    /// Starts to write the columns and the fused column, unless writing has started.
    ///
    /// # Errors
    /// Same as [`BackgroundWork::fuse`].
    pub fn write(&mut self, dense: &[(f64, VectorColumn)], sparse: Vec<SparseColumn>) -> Result<()> {
        self.fuse(dense)?;
        if self.writing.is_some() {
            return Ok(());
        }
        let fused = self.fusing.iter().flatten().map(|(fused, _)| &fused.column);
        let columns = Columns { dense: dense.iter().map(|(_, column)| column).chain(fused).cloned().collect(), sparse };
        let ShardTarget { run, index, name, first_chunk, chunks, part } = self.target;
        let span = tracing::info_span!(telemetry::EXPORT, shard = index);
        let write = move || {
            span.in_scope(|| export::write(&run.store, part, name, first_chunk, chunks, &columns, &run.interrupt))
        };
        self.writing = Some(self.scope.spawn(write));
        Ok(())
    }

    /// Ends the threads after a column failed, so that they can start again without that column.
    pub fn restart(&mut self) {
        if let Some((_, thread)) = self.fusing.take().flatten() {
            // The failed column ended the thread with an error.
            let _ = join(thread);
        }
        self.discard();
    }

    /// Waits for the writer, and deletes its file if it is complete.
    pub fn discard(&mut self) {
        if let Some(thread) = self.writing.take()
            && join(thread).is_ok()
            && let Err(error) = self.target.run.store.delete(self.target.part)
        {
            tracing::warn!("cannot delete {}; the next attempt deletes it: {}", self.target.part, error.sentence());
        }
    }

    /// Waits until the fused column is complete; `None` if there is nothing to fuse.
    ///
    /// # Errors
    /// If the fusion failed.
    pub fn fused(&mut self) -> Result<Option<FusedOutput>> {
        let Some((fused, thread)) = self.fusing.take().flatten() else { return Ok(None) };
        let seconds = join(thread)?;
        Ok(Some(FusedOutput { record: FusionRun { seconds, ..fused.record }, ..fused }))
    }

    /// Waits until the file is complete.
    ///
    /// # Errors
    /// Same as [`export::write`], and if writing was never started.
    pub fn written(&mut self) -> Result<ExportedFile> {
        let not_started = || StageError::new(FailureReason::Internal, "writing was never started");
        self.writing.take().map_or_else(|| Err(not_started()), join)
    }
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
