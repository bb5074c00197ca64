//! The embed stage: one shard, read → one pass per model → written → committed.
//!
//! A row of the output holds the vectors of all models, and a model is gone before the next one is loaded: the chunks of
//! the shard and the vectors of its passes wait in temporary files, so that memory does not grow with the shard.

use std::{
    hash::{BuildHasher, RandomState},
    ops::ControlFlow,
};

use candle_core::Device;
use crds::{
    contract::{CollectionConfig, DenseConfig, FailureReason, ShardResult},
    layout,
    summary::DensePass,
};

use super::{
    Run,
    commit::Commit,
    export::{self, VectorColumn},
    pass, plan,
};
use crate::{
    device::{self, DeviceRequest},
    error::{Result, StageError},
    plan::{Plan, PlannedCollection, Shard, SliceDigest, some_of},
    progress::Progress,
    scratch::{ChunkFile, Chunks, VectorFile},
    source::{Found, Source},
    store::PutNew,
    telemetry::{self, timed},
};

/// Embeds one shard of the plan, unless it is committed already.
pub fn embed(run: &Run, index: u32, request: DeviceRequest) -> Result<ShardResult> {
    let plan = plan::load(run)?.ok_or_else(|| {
        let path = run.store.uri_of(&layout::plan(&run.config.revision));
        StageError::new(FailureReason::StoreUnavailable, format!("{path} is not there: the plan stage comes first"))
    })?;
    let (shard, planned, collection) = find(run, &plan, index)?;
    let revision = &run.config.revision;
    if let Some(commit) = Commit::load(&run.store, revision, &shard.collection, index)? {
        tracing::info!(shard = index, chunks = commit.rows, "committed already");
        return Ok(ShardResult { shard: index, chunks: commit.rows, already_committed: true });
    }

    let (device, device_use) = device::open(request)?;
    let chunks = read(run, collection, planned, shard, index)?;
    tracing::info!(shard = index, chunks = chunks.count(), device = device_use.used, "embedding");
    let (mut columns, dense) = passes(run, &plan.models(&run.config), &chunks, &device, index)?;
    run.interrupt.check()?;
    let file = layout::shard_data(revision, &shard.collection, index, &attempt());
    let (written, export_seconds) = timed(tracing::info_span!(telemetry::EXPORT, shard = index), || {
        export::write(&run.store, &file, shard.first_chunk, &chunks, &mut columns)
    });
    let written = written?;
    let commit = Commit {
        version: Commit::VERSION,
        shard: index,
        collection: shard.collection.clone(),
        file,
        rows: chunks.count(),
        bytes: written.bytes,
        sha256: written.sha256,
        skipped: shard.skipped,
        dense,
        device: device_use,
        export_seconds,
        committed_at: jiff::Timestamp::now().to_string(),
        runner_version: env!("CARGO_PKG_VERSION").into(),
    };
    let already_committed = conclude(run, &commit)?;
    tracing::info!(shard = index, chunks = commit.rows, bytes = commit.bytes, already_committed, "committed");
    Ok(ShardResult { shard: index, chunks: commit.rows, already_committed })
}

fn find<'a>(
    run: &'a Run,
    plan: &'a Plan,
    index: u32,
) -> Result<(&'a Shard, &'a PlannedCollection, &'a CollectionConfig)> {
    let shard = plan.shards.get(index as usize).ok_or_else(|| {
        let message = format!("there is no shard {index}: the plan has {}, counted from 0", plan.shards.len());
        StageError::new(FailureReason::InvalidConfiguration, message)
    })?;
    let planned = plan.collection(&shard.collection);
    let collection = run.config.collections.iter().find(|collection| collection.name == shard.collection);
    planned.zip(collection).map(|(planned, collection)| (shard, planned, collection)).ok_or_else(|| {
        let message = format!("the plan names a collection {:?} that the run does not have", shard.collection);
        StageError::new(FailureReason::InvalidConfiguration, message)
    })
}

/// The chunks of the shard, exactly as they were planned.
fn read(
    run: &Run,
    collection: &CollectionConfig,
    planned: &PlannedCollection,
    shard: &Shard,
    index: u32,
) -> Result<Chunks> {
    let mut files = Vec::new();
    let mut chunks = ChunkFile::new()?;
    let mut digest = SliceDigest::default();
    let source = Source::open(collection)?;
    let changed = |files: &[String], what: &str| {
        let message = format!(
            "shard {index} of collection {:?} is not what was planned: {what} in {} below {}; change \
             spec.sourceRevision, so that a new revision is planned",
            shard.collection,
            some_of(files),
            collection.source.uri,
        );
        StageError::new(FailureReason::SourceChanged, message)
    };
    let mut from = shard.start.record;
    for file in planned.files.iter().skip(shard.start.file) {
        if chunks.count() == shard.chunks {
            break;
        }
        files.push(file.path.clone());
        if !source.has(&file.path)? {
            return Err(changed(&files, "a file is gone"));
        }
        let _ = source.visit(&file.path, from, &mut |found: Found<'_>| {
            run.interrupt.check()?;
            if let Some(chunk) = found.chunk {
                digest.push(&chunk);
                chunks.push(&chunk)?;
            }
            let full = chunks.count() == shard.chunks;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        from = 0;
    }
    if chunks.count() != shard.chunks {
        return Err(changed(&files, &format!("{} chunks were planned, {} are", shard.chunks, chunks.count())));
    }
    if digest.finish() != shard.sha256 {
        return Err(changed(&files, "ids or texts differ"));
    }
    chunks.finish()
}

/// One pass per model, one after the other: a model is gone before the next one is loaded.
fn passes(
    run: &Run,
    models: &[DenseConfig],
    chunks: &Chunks,
    device: &Device,
    index: u32,
) -> Result<(Vec<VectorColumn>, Vec<DensePass>)> {
    let progress = Progress::bar(run.watched, &format!("shard {index}"), chunks.count() * models.len() as u64);
    let mut columns = Vec::with_capacity(models.len());
    let mut records = Vec::with_capacity(models.len());
    for model in models {
        let span = tracing::info_span!(telemetry::DENSE, shard = index, model = model.name);
        let (passed, seconds) = timed(span, || pass(run, model, chunks, device, &progress));
        let (column, record) = passed?;
        let record = DensePass { seconds, ..record };
        tracing::info!(
            shard = index,
            model = record.model,
            chunks = record.chunks,
            tokens = record.tokens,
            truncated = record.truncated_chunks,
            seconds,
            "pass done"
        );
        columns.push(column);
        records.push(record);
    }
    progress.finish();
    Ok((columns, records))
}

fn pass(
    run: &Run,
    config: &DenseConfig,
    chunks: &Chunks,
    device: &Device,
    progress: &Progress,
) -> Result<(VectorColumn, DensePass)> {
    let model = pass::load(config, device, &run.interrupt)?;
    let before = progress.position();
    let done = |chunks| progress.set(before + chunks);
    let mut vectors = VectorFile::new(model.dimensions())?;
    let record = pass::run(&model, chunks, &run.interrupt, done, |rows| vectors.push(&rows))?;
    let described = pass::describe(config, &model, &record);
    let precision = config.precision.unwrap_or_default();
    Ok((VectorColumn { name: config.name.clone(), vectors: vectors.finish()?, precision }, described))
}

/// A name that no other attempt at the shard has.
fn attempt() -> String {
    // The standard library seeds its hash maps with randomness of the operating system.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// Commits the shard and removes what other attempts left. Says whether another attempt was faster.
fn conclude(run: &Run, commit: &Commit) -> Result<bool> {
    let put = commit.write(&run.store, &run.config.revision);
    let file = match put {
        Ok(PutNew::Written) => commit.file.clone(),
        Ok(PutNew::Existed) => {
            run.store.delete(&commit.file)?;
            return Ok(true);
        }
        Err(error) => {
            // The space may be what is missing.
            let _ = run.store.delete(&commit.file);
            return Err(error);
        }
    };
    let marker = layout::shard_commit(&run.config.revision, &commit.collection, commit.shard);
    let folder = layout::shard(&run.config.revision, &commit.collection, commit.shard);
    if let Err(error) = run.store.keep_only(&folder, &[&file, &marker]) {
        tracing::warn!(shard = commit.shard, "leftovers of an earlier attempt stay: {}", error.sentence());
    }
    Ok(false)
}
