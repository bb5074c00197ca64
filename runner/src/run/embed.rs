//! The embed stage: the chunks of one shard are read, embedded in one pass per model, fused, searched for the
//! candidates of the queries, written and committed.
//!
//! A row of the output holds the vectors of all models, and a model is dropped before the next one is loaded. The
//! chunks and the vectors of each pass wait in spill files, so that memory does not grow with the shard. Rows are fused
//! and written while the last model computes.

use std::{
    hash::{BuildHasher, RandomState},
    thread,
};

use crds::{
    contract::{FailureReason, ShardResult},
    layout,
    v1alpha1::FallbackSource,
};

use super::{
    Run,
    background::{BackgroundWork, ShardTarget},
    commit::Commit,
    passes::run_passes,
    planned,
    retrieve::{retrieval_queries, retrieve},
    shard::PlannedShard,
};
use crate::{
    device::Ledger,
    export::ExportedFile,
    process::{
        error::{Result, StageError},
        metrics::METRICS,
        telemetry::{self, timed},
    },
};

/// Embeds one shard of the plan, unless it is already committed. `index` is the index of the shard in the plan, from 0.
///
/// # Errors
/// If there is no plan or no such shard, the source has changed, a required model fails, a device or the store fails,
/// or the run is interrupted.
pub fn embed(run: &Run, index: u32) -> Result<ShardResult> {
    let plan = planned::load(run)?.ok_or_else(|| {
        let path = run.store.uri_of(&layout::plan(&run.config.revision));
        StageError::new(FailureReason::StoreUnavailable, format!("{path} is missing: run the plan stage first"))
    })?;
    let planned = PlannedShard::find(run, &plan, index)?;
    let shard = planned.shard;
    let revision = &run.config.revision;
    if let Some(commit) = Commit::load(&run.store, revision, &shard.collection, index)? {
        tracing::info!(shard = index, chunks = commit.rows, "already committed");
        return Ok(ShardResult { shard: index, chunks: commit.rows, already_committed: true });
    }

    let devices = run.devices()?;
    let chunks = planned.read_chunks(run, &plan)?;
    let device_use = devices.used.clone();
    tracing::info!(
        shard = index,
        chunks = chunks.count(),
        device = device_use.used,
        devices = device_use.count,
        "embedding"
    );
    let queries = retrieval_queries(run, &plan, planned.planned_collection)?;
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
    if let Some(coverage) = outputs.sparse_coverage(chunks.count()) {
        METRICS.coverage(coverage);
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
    let already_committed = commit.write(&run.store, revision)?;
    tracing::info!(shard = index, chunks = commit.rows, bytes = commit.bytes, already_committed, "committed");
    Ok(ShardResult { shard: index, chunks: commit.rows, already_committed })
}

/// A random name, so that the files of two attempts at a shard differ.
fn attempt_name() -> String {
    // The standard library seeds its hash maps with randomness of the operating system.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
