//! The embed stage: the chunks of one shard are read, embedded in one pass per model, fused, searched for the candidates of
//! the queries, written and committed.
//!
//! A row of the output holds the vectors of all models, and a model is dropped before the next one is loaded. The chunks and
//! the vectors of each pass wait in spill files, so that memory does not grow with the shard. Rows are fused and written
//! while the last model computes.

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
    background::{BackgroundWork, FusedOutput, ShardTarget},
    commit::Commit,
    plan,
};
use crate::{
    device::{Devices, Holder, Ledger},
    export::ExportedFile,
    pass::{DenseOutput, SparseOutput, dense, sparse},
    plan::{Plan, PlannedCollection, Shard, SliceDigest},
    process::{
        error::{Result, StageError},
        message::first_few,
        metrics::METRICS,
        progress::Progress,
        telemetry::{self, timed},
    },
    retrieval::{
        candidates::{self, CandidateFile, FusedVectors},
        exact::SearchOptions,
        queries::Queries,
    },
    source::{Source, SourceRecord},
    spill::{ChunkFile, Chunks, SparseColumn, VectorColumn},
    store::PutNew,
};

/// Embeds one shard of the plan, unless it is already committed.
pub fn embed(run: &Run, index: u32) -> Result<ShardResult> {
    let plan = plan::load(run)?.ok_or_else(|| {
        let path = run.store.uri_of(&layout::plan(&run.config.revision));
        StageError::new(FailureReason::StoreUnavailable, format!("{path} is missing: run the plan stage first"))
    })?;
    let (shard, planned, collection) = find_shard(run, &plan, index)?;
    let revision = &run.config.revision;
    if let Some(commit) = Commit::load(&run.store, revision, &shard.collection, index)? {
        tracing::info!(shard = index, chunks = commit.rows, "already committed");
        return Ok(ShardResult { shard: index, chunks: commit.rows, already_committed: true });
    }

    let devices = run.devices()?;
    let chunks = read_chunks(run, collection, planned, shard, index)?;
    let device_use = devices.used.clone();
    tracing::info!(
        shard = index,
        chunks = chunks.count(),
        device = device_use.used,
        devices = device_use.count,
        "embedding"
    );
    let queries = retrieval_queries(run, &plan, planned)?;
    let ledger = Ledger::default();
    let attempt = attempt_name();
    let file = layout::shard_data(revision, &shard.collection, index, &attempt);
    let target = ShardTarget { run, index, first_chunk: shard.first_chunk, chunks: &chunks, path: &file };
    let embedded = thread::scope(|scope| {
        let mut background = BackgroundWork::new(scope, target);
        let embedded: Result<_> = (|| {
            let outputs = run_passes(target, &plan, &queries.texts(), &devices, &ledger, &mut background)?;
            run.interrupt.check()?;
            let fused = background.fused()?;
            let (candidates, retrieve_seconds) = timed(tracing::info_span!(telemetry::RETRIEVE, shard = index), || {
                if queries.queries.is_empty() {
                    return Ok(None);
                }
                let path = layout::shard_candidates(revision, &shard.collection, index, &attempt);
                retrieve(target, &path, &outputs, fused.as_ref(), (&devices, &ledger)).map(Some)
            });
            Ok((outputs, fused, candidates?, retrieve_seconds, background.written()?))
        })();
        if embedded.is_err() {
            background.discard();
        }
        embedded
    });
    let (outputs, fused, candidates, retrieve_seconds, ExportedFile { file: written, seconds: export_seconds }) =
        embedded?;
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
    let already_committed = commit_shard(run, &commit)?;
    tracing::info!(shard = index, chunks = commit.rows, bytes = commit.bytes, already_committed, "committed");
    Ok(ShardResult { shard: index, chunks: commit.rows, already_committed })
}

fn find_shard<'a>(
    run: &'a Run,
    plan: &'a Plan,
    index: u32,
) -> Result<(&'a Shard, &'a PlannedCollection, &'a CollectionConfig)> {
    let shard = plan.shards.get(index as usize).ok_or_else(|| {
        let message =
            format!("shard {index} does not exist: the plan has {} shards, counted from 0", plan.shards.len());
        StageError::new(FailureReason::InvalidConfiguration, message)
    })?;
    let planned = plan.collection(&shard.collection);
    let collection = run.config.collections.iter().find(|collection| collection.name == shard.collection);
    planned.zip(collection).map(|(planned, collection)| (shard, planned, collection)).ok_or_else(|| {
        let message = format!("the plan has a collection {:?} that the configuration does not have", shard.collection);
        StageError::new(FailureReason::InvalidConfiguration, message)
    })
}

/// Reads the chunks of the shard and checks that they are the planned ones.
fn read_chunks(
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
            "shard {index} of collection {:?} has changed since the plan: {what} in {} below {}; change \
             spec.sourceRevision to plan a new revision",
            shard.collection,
            first_few(files),
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
            return Err(changed(&files, "a file is missing"));
        }
        let _ = source.visit(&file.path, from, &mut |record: SourceRecord<'_>| {
            run.interrupt.check()?;
            if let Some(chunk) = record.chunk {
                digest.push(&chunk);
                chunks.push(&chunk)?;
            }
            let full = chunks.count() == shard.chunks;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        from = 0;
    }
    if chunks.count() != shard.chunks {
        return Err(changed(&files, &format!("{} chunks were planned, {} exist", shard.chunks, chunks.count())));
    }
    if digest.finish() != shard.sha256 {
        return Err(changed(&files, "ids or texts differ"));
    }
    chunks.finish()
}

/// The queries whose candidates are retrieved; none if no stage uses them.
fn retrieval_queries(run: &Run, plan: &Plan, planned: &PlannedCollection) -> Result<Queries> {
    if !run.wants_candidates() {
        return Ok(Queries::default());
    }
    Queries::of(plan, planned, run.config.rerank.as_ref().and_then(|rerank| rerank.queries.as_ref()))
}

/// The outputs of all passes of a shard.
struct PassOutputs {
    dense: Vec<DenseOutput>,
    dense_fallbacks: Vec<ModelFallback>,
    sparse: Vec<SparseOutput>,
}

impl PassOutputs {
    /// The dense columns, each with its weight.
    fn dense_columns(&self) -> Vec<(f64, VectorColumn)> {
        self.dense.iter().map(|output| (output.weight, output.column.clone())).collect()
    }

    fn sparse_columns(&self) -> Vec<SparseColumn> {
        self.sparse.iter().filter_map(|output| output.column.clone()).collect()
    }
}

/// Runs one pass per model, one after the other: a model is dropped before the next one is loaded. Background work starts
/// with the last pass of its columns.
fn run_passes(
    target: ShardTarget<'_>,
    plan: &Plan,
    queries: &[&str],
    devices: &Devices,
    ledger: &Ledger,
    background: &mut BackgroundWork<'_, '_>,
) -> Result<PassOutputs> {
    let ShardTarget { run, index, chunks, .. } = target;
    let context = run.pass_context(devices, ledger);
    let sparse_models = run.toggles.sparse_models(&run.config);
    let sparse_count = sparse_models.len();
    let mut outputs = PassOutputs { dense: Vec::new(), dense_fallbacks: Vec::new(), sparse: Vec::new() };
    for (number, model) in run.config.dense.iter().enumerate() {
        let model = &DenseConfig { source: plan.pinned(&model.name, &model.source), ..model.clone() };
        let progress = Progress::bar(run.show_progress, &format!("shard {index} {}", model.name), chunks.count());
        let span = tracing::info_span!(telemetry::DENSE, shard = index, model = model.name);
        let last = number + 1 == run.config.dense.len();
        let on_start = |column: &VectorColumn| {
            if !last {
                return Ok(());
            }
            let columns = [outputs.dense_columns(), vec![(model.weight, column.clone())]].concat();
            if sparse_count == 0 { background.write(&columns, Vec::new()) } else { background.fuse(&columns) }
        };
        let (passed, seconds) =
            timed(span, || dense::pass(context, model, chunks, queries, index, &progress, on_start));
        progress.finish();
        match passed? {
            Err(fallback) => {
                background.restart();
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
        let progress = Progress::bar(run.show_progress, &format!("shard {index} {}", model.name), chunks.count());
        let span = tracing::info_span!(telemetry::SPARSE, shard = index, model = model.name);
        let last = number + 1 == sparse_count;
        let on_start = |column: &SparseColumn| {
            if !last {
                return Ok(());
            }
            background.write(&outputs.dense_columns(), [outputs.sparse_columns(), vec![column.clone()]].concat())
        };
        let (passed, seconds) =
            timed(span, || sparse::pass(context, model, chunks, queries, index, &progress, on_start));
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
        let message = format!("no model could be used; all are optional and failed: {}", first_few(&failed));
        return Err(StageError::new(FailureReason::InvalidModel, message));
    }
    // No effect if the last pass has started it.
    background.write(&outputs.dense_columns(), outputs.sparse_columns())?;
    Ok(outputs)
}

/// Finds the candidates of the queries, on a GPU if there is one, and writes them to `path`.
fn retrieve(
    ShardTarget { run, index, first_chunk, chunks, .. }: ShardTarget<'_>,
    path: &str,
    outputs: &PassOutputs,
    fused: Option<&FusedOutput>,
    (devices, ledger): (&Devices, &Ledger),
) -> Result<CandidateFile> {
    let fused = fused.map(|fused| FusedVectors { fusion: &fused.fusion, vectors: &fused.column.vectors });
    let holder = Holder { stage: "retrieve", model: "", shard: Some(index) };
    let lease = devices.accelerated().then(|| run.lease(holder, devices, ledger)).transpose()?;
    let device = devices.iter().next().map_or(Device::Cpu, |first| first.device.clone());
    let options = SearchOptions {
        k: run.config.rerank.clone().unwrap_or_default().candidates as usize,
        device: &device,
        interrupt: &run.interrupt,
    };
    let lists = candidates::find(chunks, first_chunk, &outputs.dense, fused.as_ref(), &outputs.sparse, options)?;
    drop(lease);
    candidates::write(&run.store, path, &lists)
}

/// A name that no other attempt at the shard has.
fn attempt_name() -> String {
    // The standard library seeds its hash maps with randomness of the operating system.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// Commits the shard and deletes the leftovers of other attempts. Returns whether another attempt has committed it before.
fn commit_shard(run: &Run, commit: &Commit) -> Result<bool> {
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
            // The store may be full: free the space.
            let _ = run.store.delete(&commit.file);
            return Err(error);
        }
    };
    let candidates = commit.candidates.as_ref().map(|file| file.path.as_str());
    let marker = layout::shard_commit(&run.config.revision, &commit.collection, commit.shard);
    let folder = layout::shard(&run.config.revision, &commit.collection, commit.shard);
    let keep: Vec<&str> = [file.as_str(), marker.as_str()].into_iter().chain(candidates).collect();
    if let Err(error) = run.store.keep_only(&folder, &keep) {
        tracing::warn!(shard = commit.shard, "cannot delete the leftovers of an earlier attempt: {}", error.sentence());
    }
    Ok(false)
}
