//! A shard of the plan: found by its index, and its chunks read from the source and checked against the plan.

use std::ops::ControlFlow;

use crds::contract::{CollectionConfig, FailureReason};

use super::Run;
use crate::{
    plan::{Plan, PlannedCollection, Shard},
    process::{
        error::{Result, StageError},
        message::first_few,
    },
    source::{Source, SourceRecord},
    spill::{ChunkFile, Chunks},
};

/// A shard with its collection in the plan and in the configuration.
#[derive(Clone, Copy)]
pub struct PlannedShard<'a> {
    /// The index of the shard in the plan.
    pub index: u32,
    /// The shard.
    pub shard: &'a Shard,
    /// Its collection in the plan.
    pub planned_collection: &'a PlannedCollection,
    /// Its collection in the configuration.
    pub collection: &'a CollectionConfig,
}

impl<'a> PlannedShard<'a> {
    /// The shard of `plan` at `index`.
    ///
    /// # Errors
    /// If the plan has no such shard, or the configuration does not have its collection.
    pub fn find(run: &'a Run, plan: &'a Plan, index: u32) -> Result<Self> {
        let shard = plan.shards.get(index as usize).ok_or_else(|| {
            let message =
                format!("shard {index} does not exist: the plan has {} shards, counted from 0", plan.shards.len());
            StageError::new(FailureReason::InvalidConfiguration, message)
        })?;
        let planned_collection = plan.collection(&shard.collection);
        let collection = run.config.collections.iter().find(|collection| collection.name == shard.collection);
        planned_collection
            .zip(collection)
            .map(|(planned_collection, collection)| Self { index, shard, planned_collection, collection })
            .ok_or_else(|| {
                let message =
                    format!("the plan has a collection {:?} that the configuration does not have", shard.collection);
                StageError::new(FailureReason::InvalidConfiguration, message)
            })
    }

    /// Reads the chunks of the shard and checks that they are the planned ones.
    ///
    /// # Errors
    /// If the source cannot be read, its files have changed since the plan, or the run is interrupted.
    pub fn read_chunks(&self, run: &Run, plan: &Plan) -> Result<Chunks> {
        let Self { shard, planned_collection, collection, .. } = *self;
        let mut files = Vec::new();
        let mut chunks = ChunkFile::new()?;
        let mut digest = plan.slice_digest();
        let source = Source::open(collection, run.toggles.limits, &run.interrupt)?;
        let mut first_record = shard.start.record;
        for file in planned_collection.files.iter().skip(shard.start.file) {
            if chunks.count() == shard.chunks {
                break;
            }
            files.push(file.path.clone());
            if !source.has(&file.path)? {
                return Err(self.source_changed(&files, "a file is missing"));
            }
            let _ = source.visit(&file.path, first_record, &mut |record: SourceRecord<'_>| {
                run.interrupt.check()?;
                if let Some(chunk) = record.chunk {
                    digest.push(&chunk);
                    chunks.push(&chunk)?;
                }
                let full = chunks.count() == shard.chunks;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            first_record = 0;
        }
        if chunks.count() != shard.chunks {
            let difference = format!("{} chunks were planned, {} exist", shard.chunks, chunks.count());
            return Err(self.source_changed(&files, &difference));
        }
        if digest.finish() != shard.sha256 {
            return Err(self.source_changed(&files, "ids, texts or metadata differ"));
        }
        chunks.finish()
    }

    /// The error of a source that differs from the plan; `files` were read until the `difference` was noticed.
    fn source_changed(&self, files: &[String], difference: &str) -> StageError {
        let message = format!(
            "shard {} of collection {:?} has changed since the plan: {difference} in {} below {}; change \
             spec.sourceRevision to plan a new revision",
            self.index,
            self.shard.collection,
            first_few(files),
            self.collection.source.uri,
        );
        StageError::new(FailureReason::SourceChanged, message)
    }
}
