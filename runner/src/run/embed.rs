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
    commit::{self, Cause, Commit, Generation, Outcome},
    passes::run_passes,
    planned,
    retrieve::{retrieval_queries, retrieve},
    shard::PlannedShard,
};
use crate::{
    device::Ledger,
    export::{ExportedFile, ShardName},
    plan::Plan,
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
    let generation = Generation::of(&run.store, &run.config.revision, &planned.shard.collection, index)?;
    let number = match committed(run, &generation)? {
        Committed::Usable(commit) => {
            tracing::info!(shard = index, chunks = commit.rows, "already committed");
            return Ok(ShardResult { shard: index, chunks: commit.rows, already_committed: true });
        }
        Committed::No => generation.number,
        Committed::Unusable(cause, message) => {
            let place = (planned.shard.collection.as_str(), index, generation.number);
            commit::supersede(&run.store, &run.config.revision, place, cause, &message)?;
            generation.number + 1
        }
    };
    match compute(run, &plan, planned, number) {
        // The attempt that committed the shard deletes the unfinished files of the others.
        Err(error) if error.reason == FailureReason::StoreUnavailable => {
            let found = Generation::of(&run.store, &run.config.revision, &planned.shard.collection, index);
            match found.ok().and_then(|generation| generation.commit) {
                Some(commit) => {
                    tracing::warn!(shard = index, "another attempt committed the shard: {}", error.sentence());
                    Ok(ShardResult { shard: index, chunks: commit.rows, already_committed: true })
                }
                None => Err(error),
            }
        }
        result => result,
    }
}

/// Whether a shard is committed.
enum Committed<'a> {
    /// It is.
    Usable(&'a Commit),
    /// It is not.
    No,
    /// Its marker does not count: why.
    Unusable(Cause, String),
}

/// Whether the marker of a shard counts: its files are there, and no optional model is to be tried again.
fn committed<'a>(run: &Run, generation: &'a Generation) -> Result<Committed<'a>> {
    let Some(commit) = &generation.commit else {
        let torn = || Committed::Unusable(Cause::Torn, "its marker is not whole".into());
        return Ok(if generation.is_torn { torn() } else { Committed::No });
    };
    if let Some(defect) = commit::defect(&run.store, commit, run.recheck.depth)? {
        return Ok(Committed::Unusable(Cause::FileDamaged, defect));
    }
    let left_out = commit.missing_models().next().filter(|_| run.recheck.retry_fallbacks);
    Ok(left_out.map_or(Committed::Usable(commit), |fallback| {
        let message = format!("model {} was left out and is tried again: {}", fallback.model, fallback.message);
        Committed::Unusable(Cause::RetryRequested, message)
    }))
}

/// Computes a shard and commits it as this generation.
fn compute(run: &Run, plan: &Plan, planned: PlannedShard<'_>, generation: u32) -> Result<ShardResult> {
    let PlannedShard { index, shard, .. } = planned;
    let revision = &run.config.revision;
    let devices = run.devices()?;
    let chunks = planned.read_chunks(run, plan)?;
    let device_use = devices.used.clone();
    tracing::info!(
        shard = index,
        chunks = chunks.count(),
        device = device_use.used,
        devices = device_use.count,
        "embedding"
    );
    let queries = retrieval_queries(run, plan, planned.planned_collection)?;
    let ledger = Ledger::default();
    let attempt = attempt_name();
    let part = |name: &str| layout::shard_part(revision, &shard.collection, index, name);
    let data_part = part(&attempt);
    let name = ShardName { revision, collection: &shard.collection, shard: index, content_sha256: &shard.sha256 };
    let target = ShardTarget { run, index, name, first_chunk: shard.first_chunk, chunks: &chunks, part: &data_part };
    let embedded = thread::scope(|scope| {
        let mut background = BackgroundWork::new(scope, target);
        let embedded: Result<_> = (|| {
            let outputs = run_passes(target, plan, &queries.texts(), &devices, &ledger, &mut background)?;
            run.interrupt.check()?;
            let fused = background.fused()?;
            let (candidates, retrieve_seconds) = timed(tracing::info_span!(telemetry::RETRIEVE, shard = index), || {
                if queries.queries.is_empty() {
                    return Ok(None);
                }
                let candidates_part = part(&format!("{attempt}.candidates"));
                retrieve(target, &candidates_part, &outputs, fused.as_ref(), (&devices, &ledger)).map(Some)
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
    let file = layout::shard_data(revision, &shard.collection, index, &written.sha256);
    run.store.rename(&data_part, &file, written.bytes)?;
    METRICS.export(&device_use.used, export_seconds, written.bytes);
    if let Some(reason) = device_use.fallback {
        METRICS.fallback("device", reason, FallbackSource::Load, 1);
    }
    if let Some(coverage) = outputs.sparse_coverage(chunks.count()) {
        METRICS.coverage(coverage);
    }
    let mut commit = Commit {
        version: Commit::VERSION,
        generation,
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
    let already_committed = commit.write(&run.store, revision)? == Outcome::Another;
    tracing::info!(shard = index, chunks = commit.rows, bytes = commit.bytes, already_committed, "committed");
    let folder = layout::shard(revision, &shard.collection, index);
    if let Err(error) = run.store.delete_leftovers(&folder, layout::PART) {
        tracing::warn!(shard = index, "cannot delete the unfinished files of other attempts: {}", error.sentence());
    }
    Ok(ShardResult { shard: index, chunks: commit.rows, already_committed })
}

/// A random name, so that the files of two attempts at a shard differ.
fn attempt_name() -> String {
    // The standard library seeds its hash maps with randomness of the operating system.
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}
