//! What follows the passes of a shard: its rows are fused and written on threads of their own while the last model still
//! computes, so that nobody holds a device, or waits, for what needs none.

use std::thread::{Scope, ScopedJoinHandle};

use crds::{
    contract::FailureReason,
    summary::{FusedModel, FusionRun},
    v1alpha1::Precision,
};

use super::{
    Run,
    export::{self, Columns, Exported, VectorColumn},
    sparse::SparseColumn,
};
use crate::{
    batch::Rows,
    error::{Result, StageError},
    fusion::{self, VectorFusion},
    scratch::{Chunks, VectorFile, VectorReader},
    telemetry,
};

/// Rows that are fused at a time.
const FUSED_ROWS: u64 = 1024;

/// What the dense models together gave for a shard.
pub struct FusedOutput {
    /// How.
    pub fusion: VectorFusion,
    /// The column.
    pub column: VectorColumn,
    /// What was done.
    pub record: FusionRun,
}

/// A shard that is written.
#[derive(Clone, Copy)]
pub struct Target<'env> {
    /// The run.
    pub run: &'env Run,
    /// The number of the shard.
    pub index: u32,
    /// The number of its first chunk in the collection.
    pub first_chunk: u64,
    /// Its chunks.
    pub chunks: &'env Chunks,
    /// Where the file goes.
    pub path: &'env str,
}

/// The threads that follow the passes of a shard. Each is begun as soon as the columns are known that it reads, which is
/// before the vectors of the last one are there.
pub struct Followers<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    target: Target<'env>,
    fusing: Option<Fusing<'scope>>,
    writing: Option<ScopedJoinHandle<'scope, Result<Exported>>>,
}

/// A fusion under way; none where there is nothing to fuse.
type Fusing<'scope> = Option<(FusedOutput, ScopedJoinHandle<'scope, Result<f64>>)>;

impl<'scope, 'env> Followers<'scope, 'env> {
    /// None yet.
    pub fn new(scope: &'scope Scope<'scope, 'env>, target: Target<'env>) -> Self {
        Self { scope, target, fusing: None, writing: None }
    }

    /// Begins to fuse the dense columns, each with its weight, unless that was begun.
    ///
    /// # Errors
    /// If the fused vector is too wide, or there is no temporary file.
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
        let record = FusionRun {
            column: fusion::COLUMN.into(),
            method: format!("{:?}", fusion.method()),
            models: dense.iter().zip(fusion.shares()).map(share).collect(),
            dimensions: fusion.dimensions() as u32,
            seconds: 0.0,
        };
        let column = VectorColumn { name: fusion::COLUMN.into(), vectors: file.vectors(), precision: Precision::F32 };
        let mut readers: Vec<VectorReader> = dense.iter().map(|(_, column)| column.vectors.reader()).collect();
        let span = tracing::info_span!(telemetry::FUSION);
        let output = FusedOutput { fusion: fusion.clone(), column, record };
        let fuse = move || {
            let (fused, seconds) = telemetry::timed(span, || -> Result<()> {
                let mut left = chunks;
                while left > 0 {
                    run.interrupt.check()?;
                    let count = left.min(FUSED_ROWS) as usize;
                    let rows: Vec<Rows> = readers.iter_mut().map(|reader| reader.read(count)).collect::<Result<_>>()?;
                    file.push(&fusion.fuse(&rows))?;
                    left -= count as u64;
                }
                Ok(())
            });
            let waited: f64 = readers.iter().map(|reader| reader.waited().as_secs_f64()).sum();
            fused.map(|()| (seconds - waited).max(0.0))
        };
        Ok(Some((output, self.scope.spawn(fuse))))
    }

    /// Begins to write the columns and the fused one, unless that was begun.
    ///
    /// # Errors
    /// As [`Followers::fuse`].
    pub fn write(&mut self, dense: &[(f64, VectorColumn)], sparse: Vec<SparseColumn>) -> Result<()> {
        self.fuse(dense)?;
        if self.writing.is_some() {
            return Ok(());
        }
        let fused = self.fusing.iter().flatten().map(|(fused, _)| &fused.column);
        let columns = Columns { dense: dense.iter().map(|(_, column)| column).chain(fused).cloned().collect(), sparse };
        let Target { run, index, first_chunk, chunks, path } = self.target;
        let span = tracing::info_span!(telemetry::EXPORT, shard = index);
        let write =
            move || span.in_scope(|| export::write(&run.store, path, first_chunk, chunks, &columns, &run.interrupt));
        self.writing = Some(self.scope.spawn(write));
        Ok(())
    }

    /// Ends what reads a column that will not be whole; it is begun anew without that.
    pub fn abandon(&mut self) {
        if let Some((_, thread)) = self.fusing.take().flatten() {
            // It ends with an error, since the column does.
            let _ = joined(thread);
        }
        self.remove();
    }

    /// Ends the writing, and removes what was written.
    pub fn remove(&mut self) {
        if let Some(thread) = self.writing.take()
            && joined(thread).is_ok()
            && let Err(error) = self.target.run.store.delete(self.target.path)
        {
            tracing::warn!("{} stays, the next attempt removes it: {}", self.target.path, error.sentence());
        }
    }

    /// Waits for the fused column.
    ///
    /// # Errors
    /// If it could not be made.
    pub fn fused(&mut self) -> Result<Option<FusedOutput>> {
        let Some((fused, thread)) = self.fusing.take().flatten() else { return Ok(None) };
        let seconds = joined(thread)?;
        Ok(Some(FusedOutput { record: FusionRun { seconds, ..fused.record }, ..fused }))
    }

    /// Waits for the file.
    ///
    /// # Errors
    /// As [`export::write`], and if no columns are written.
    pub fn written(&mut self) -> Result<Exported> {
        let nothing = || StageError::new(FailureReason::Internal, "no columns are written");
        self.writing.take().map_or_else(|| Err(nothing()), joined)
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
