//! The embed stage: one shard, read → one pass per model → fused → candidates of the queries → written → committed.
//!
//! A row of the output holds the vectors of all models, and a model is gone before the next one is loaded: the chunks of
//! the shard and the vectors of its passes wait in temporary files, so that memory does not grow with the shard. Rows are
//! fused and written while the last model computes.

use std::{
    hash::{BuildHasher, RandomState},
    ops::ControlFlow,
    thread,
};

use candle_core::Device;
use crds::{
    contract::{CollectionConfig, DenseConfig, FailureReason, ShardResult, SparseConfig},
    layout,
    summary::{DensePass, ModelFallback},
    v1alpha1::FallbackSource,
};

use super::{
    Run,
    candidates::{self, CandidateFile, Fused},
    commit::Commit,
    dense::{self, DenseOutput},
    export::{Exported, VectorColumn},
    follow::{Followers, FusedOutput, Target},
    plan,
    sparse::{self, SparseColumn, SparseOutput},
};
use crate::{
    error::{Result, StageError},
    gpu::{Devices, Holder, Lease, Ledger},
    metrics::METRICS,
    plan::{Plan, PlannedCollection, Shard, SliceDigest, some_of},
    progress::Progress,
    queries::Queries,
    retrieve::Search,
    scratch::{ChunkFile, Chunks},
    source::{Found, Source},
    store::PutNew,
    telemetry::{self, timed},
};

/// Embeds one shard of the plan, unless it is committed already.
pub fn embed(run: &Run, index: u32) -> Result<ShardResult> {
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

    let devices = run.devices()?;
    let chunks = read(run, collection, planned, shard, index)?;
    let device_use = devices.used.clone();
    tracing::info!(
        shard = index,
        chunks = chunks.count(),
        device = device_use.used,
        devices = device_use.count,
        "embedding"
    );
    let queries = asked(run, &plan, planned)?;
    let ledger = Ledger::default();
    let attempt = attempt();
    let file = layout::shard_data(revision, &shard.collection, index, &attempt);
    let target = Target { run, index, first_chunk: shard.first_chunk, chunks: &chunks, path: &file };
    let embedded = thread::scope(|scope| {
        let mut followers = Followers::new(scope, target);
        let embedded: Result<_> = (|| {
            let outputs = passes(target, &plan, &queries.texts(), &devices, &ledger, &mut followers)?;
            run.interrupt.check()?;
            let fused = followers.fused()?;
            let (candidates, retrieve_seconds) = timed(tracing::info_span!(telemetry::RETRIEVE, shard = index), || {
                if queries.queries.is_empty() {
                    return Ok(None);
                }
                let path = layout::shard_candidates(revision, &shard.collection, index, &attempt);
                retrieve(target, &path, &outputs, fused.as_ref(), (&devices, &ledger)).map(Some)
            });
            Ok((outputs, fused, candidates?, retrieve_seconds, followers.written()?))
        })();
        if embedded.is_err() {
            followers.remove();
        }
        embedded
    });
    let (outputs, fused, candidates, retrieve_seconds, Exported { file: written, seconds: export_seconds }) = embedded?;
    METRICS.export(&device_use.used, export_seconds, written.bytes);
    if let Some(reason) = device_use.fallback {
        METRICS.fallback("device", reason, FallbackSource::Load, 1);
    }
    let sparse_rows = outputs.sparse.len() as u64 * chunks.count();
    if sparse_rows > 0 {
        let live: u64 = outputs.sparse.iter().flat_map(|output| &output.record).map(|record| record.model_chunks).sum();
        METRICS.coverage(live as f64 / sparse_rows as f64);
    }
    let commit = Commit {
        version: Commit::VERSION,
        shard: index,
        collection: shard.collection.clone(),
        file,
        rows: chunks.count(),
        bytes: written.bytes,
        sha256: written.sha256,
        skipped: shard.skipped,
        dense: outputs.dense.into_iter().map(|output| output.record).collect(),
        dense_fallbacks: outputs.dense_fallbacks,
        sparse_fallbacks: outputs.sparse.iter().flat_map(|output| output.fallbacks.clone()).collect(),
        sparse: outputs.sparse.into_iter().filter_map(|output| output.record).collect(),
        fusion: fused.map(|fused| fused.record),
        candidates,
        retrieve_seconds,
        trace: ledger.into_trace(),
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

/// The queries whose candidates are wanted; none where nothing is done with any.
fn asked(run: &Run, plan: &Plan, planned: &PlannedCollection) -> Result<Queries> {
    if !run.wants_candidates() {
        return Ok(Queries::default());
    }
    Queries::of(plan, planned, run.config.rerank.as_ref().and_then(|rerank| rerank.queries.as_ref()))
}

/// What the models of a shard gave.
struct Outputs {
    dense: Vec<DenseOutput>,
    dense_fallbacks: Vec<ModelFallback>,
    sparse: Vec<SparseOutput>,
}

impl Outputs {
    /// The dense columns, each with its weight.
    fn dense_columns(&self) -> Vec<(f64, VectorColumn)> {
        self.dense.iter().map(|output| (output.weight, output.column.clone())).collect()
    }

    fn sparse_columns(&self) -> Vec<SparseColumn> {
        self.sparse.iter().filter_map(|output| output.column.clone()).collect()
    }
}

/// One pass per model, one after the other: a model is gone before the next one is loaded. What can follow a pass is
/// begun with it.
fn passes(
    target: Target<'_>,
    plan: &Plan,
    queries: &[&str],
    devices: &Devices,
    ledger: &Ledger,
    followers: &mut Followers<'_, '_>,
) -> Result<Outputs> {
    let Target { run, index, chunks, .. } = target;
    let sparse_models = run.toggles.sparse_models(&run.config);
    let sparse_count = sparse_models.len();
    let mut outputs = Outputs { dense: Vec::new(), dense_fallbacks: Vec::new(), sparse: Vec::new() };
    for (number, model) in run.config.dense.iter().enumerate() {
        let model = &DenseConfig { source: plan.pinned(&model.name, &model.source), ..model.clone() };
        let progress = Progress::bar(run.watched, &format!("shard {index} {}", model.name), chunks.count());
        let span = tracing::info_span!(telemetry::DENSE, shard = index, model = model.name);
        let last = number + 1 == run.config.dense.len();
        let began = |column: &VectorColumn| {
            if !last {
                return Ok(());
            }
            let columns = [outputs.dense_columns(), vec![(model.weight, column.clone())]].concat();
            if sparse_count == 0 { followers.write(&columns, Vec::new()) } else { followers.fuse(&columns) }
        };
        let (passed, seconds) =
            timed(span, || dense::pass(run, model, chunks, queries, devices, ledger, index, &progress, began));
        progress.finish();
        match passed? {
            Err(fallback) => {
                followers.abandon();
                outputs.dense_fallbacks.push(fallback);
            }
            Ok(output) => {
                let record = DensePass { seconds, ..output.record };
                tracing::info!(
                    shard = index,
                    model = record.model,
                    chunks = record.chunks,
                    tokens = record.tokens,
                    truncated = record.truncated_chunks,
                    seconds,
                    "pass done"
                );
                outputs.dense.push(DenseOutput { record, ..output });
            }
        }
    }
    for (number, model) in sparse_models.into_iter().enumerate() {
        let model = &SparseConfig { source: plan.pinned(&model.name, &model.source), ..model.clone() };
        let progress = Progress::bar(run.watched, &format!("shard {index} {}", model.name), chunks.count());
        let span = tracing::info_span!(telemetry::SPARSE, shard = index, model = model.name);
        let last = number + 1 == sparse_count;
        let began = |column: &SparseColumn| {
            if !last {
                return Ok(());
            }
            followers.write(&outputs.dense_columns(), [outputs.sparse_columns(), vec![column.clone()]].concat())
        };
        let (passed, seconds) =
            timed(span, || sparse::pass(run, model, chunks, queries, devices, ledger, index, &progress, began));
        progress.finish();
        let mut output = passed?;
        if let Some(record) = &mut output.record {
            record.seconds = seconds;
            tracing::info!(
                shard = index,
                model = record.model,
                chunks = record.chunks,
                of_metadata = record.metadata_chunks,
                seconds,
                "sparse pass done"
            );
        }
        outputs.sparse.push(output);
    }
    if outputs.dense.is_empty() && outputs.sparse.iter().all(|output| output.queries.is_none()) {
        let failed: Vec<String> = outputs
            .dense_fallbacks
            .iter()
            .map(|fallback| format!("{} ({})", fallback.model, fallback.message))
            .collect();
        let message = format!("no model could be used, though all are optional: {}", some_of(&failed));
        return Err(StageError::new(FailureReason::InvalidModel, message));
    }
    // Unless it was begun with the last pass.
    followers.write(&outputs.dense_columns(), outputs.sparse_columns())?;
    Ok(outputs)
}

/// Finds the candidates of the queries, on a GPU where there is one, and writes them to `path`.
fn retrieve(
    Target { run, index, first_chunk, chunks, .. }: Target<'_>,
    path: &str,
    outputs: &Outputs,
    fused: Option<&FusedOutput>,
    (devices, ledger): (&Devices, &Ledger),
) -> Result<CandidateFile> {
    let fused = fused.map(|fused| Fused { fusion: &fused.fusion, vectors: &fused.column.vectors });
    let holder = Holder { stage: "retrieve", model: "", shard: Some(index) };
    let lease = devices
        .accelerated()
        .then(|| Lease::acquire(holder, devices, &run.resident, ledger, &run.interrupt))
        .transpose()?;
    let device = devices.iter().next().map_or(Device::Cpu, |first| first.device.clone());
    let search = Search {
        most: run.config.rerank.clone().unwrap_or_default().candidates as usize,
        device: &device,
        interrupt: &run.interrupt,
    };
    let found = candidates::find(chunks, first_chunk, &outputs.dense, fused.as_ref(), &outputs.sparse, search)?;
    drop(lease);
    candidates::write(&run.store, path, &found)
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
            if let Some(candidates) = &commit.candidates {
                run.store.delete(&candidates.path)?;
            }
            return Ok(true);
        }
        Err(error) => {
            // The space may be what is missing.
            let _ = run.store.delete(&commit.file);
            return Err(error);
        }
    };
    let candidates = commit.candidates.as_ref().map(|file| file.path.as_str());
    let marker = layout::shard_commit(&run.config.revision, &commit.collection, commit.shard);
    let folder = layout::shard(&run.config.revision, &commit.collection, commit.shard);
    let keep: Vec<&str> = [file.as_str(), marker.as_str()].into_iter().chain(candidates).collect();
    if let Err(error) = run.store.keep_only(&folder, &keep) {
        tracing::warn!(shard = commit.shard, "leftovers of an earlier attempt stay: {}", error.sentence());
    }
    Ok(false)
}
