//! The plan stage: a complete revision is published again, a planned one keeps its plan, otherwise the sources are read
//! and cut into shards.

use crds::{
    contract::{FailureReason, PlanResult},
    layout,
};

use super::{Run, publish};
use crate::{
    hub,
    plan::Plan,
    process::{
        error::{Result, StageError},
        progress::Progress,
        telemetry::{self, timed},
    },
    retrieval::{metric::Metric, queries::QueryFile},
    store::{PutNew, Store},
};

/// Plans a revision, once. `shard_size` is the largest number of chunks in a shard; it is ignored if the revision
/// already has a plan.
///
/// # Errors
/// If the output is not writable, a source or the queries cannot be read, the hub fails, or the run is interrupted.
pub fn plan(run: &Run, shard_size: u64) -> Result<PlanResult> {
    if let Some(result) = publish::complete_result(run)? {
        // The spec may have returned to this revision after another one was published.
        publish::publish(run)?;
        let chunks = result.totals.chunks;
        let shards = load(run)?.map_or(0, |plan| plan.shards.len() as u32);
        tracing::info!(revision = %run.config.revision, chunks, "revision already complete, nothing to compute");
        return Ok(PlanResult { shards, chunks, complete: Some(result) });
    }
    check_writable(&run.store, run.config.revision.as_str())?;
    let plan = match load(run)? {
        Some(plan) => {
            tracing::info!(shards = plan.shards.len(), "already planned");
            plan
        }
        None => write(run, shard_size)?,
    };
    Ok(PlanResult { shards: plan.shards.len() as u32, chunks: plan.chunks(), complete: None })
}

/// The plan of the revision; `None` if it is not written yet.
pub(super) fn load(run: &Run) -> Result<Option<Plan>> {
    let path = layout::plan(&run.config.revision);
    let Some(bytes) = run.store.get(&path)? else {
        return Ok(None);
    };
    Plan::parse(&bytes, &run.store.uri_of(&path), &run.config.revision).map(Some)
}

fn write(run: &Run, shard_size: u64) -> Result<Plan> {
    // Before the sources are read, and long before a shard takes a GPU.
    let commits = hub::commits(&run.config, &run.interrupt)?;
    let queries_sha256 = check_queries(run)?;
    let progress = Progress::counter(run.show_progress, "planning");
    let (plan, seconds) = timed(tracing::info_span!(telemetry::PLAN), || {
        Plan::build(&run.config, shard_size, run.toggles.limits, &run.interrupt, &progress)
    });
    progress.finish();
    let plan = Plan { seconds, commits, queries_sha256, ..plan? };
    let path = layout::plan(&run.config.revision);
    match run.store.put_new(&path, plan.to_json())? {
        PutNew::Written => {
            tracing::info!(shards = plan.shards.len(), chunks = plan.chunks(), seconds, "planned");
            Ok(plan)
        }
        // Another attempt wrote its plan first; every shard uses that plan.
        PutNew::Existed => Ok(load(run)?.unwrap_or(plan)),
    }
}

/// Reads and checks the queries and the gate. Returns the sha256 of the file of queries.
fn check_queries(run: &Run) -> Result<Option<String>> {
    let Some(rerank) = &run.config.rerank else { return Ok(None) };
    let file = rerank.queries.as_ref().map(QueryFile::read).transpose()?;
    if let Some(gate) = &rerank.gate {
        let invalid = |message| StageError::new(FailureReason::InvalidConfiguration, message);
        gate.metric.parse::<Metric>().map_err(|error| invalid(format!("spec.rerank.gate.metric: {error}")))?;
        if !file.as_ref().is_some_and(QueryFile::has_judgements) {
            let message = "spec.rerank.gate needs judgements: add \"relevant\" to the queries, or remove the gate";
            return Err(invalid(message.to_owned()));
        }
    }
    Ok(file.map(|file| file.sha256))
}

/// Checks that the output store is writable before anything is computed for it.
fn check_writable(store: &Store, revision: &str) -> Result<()> {
    let path = format!("runs/{revision}/.probe-{}", std::process::id());
    store.put_new(&path, Vec::new())?;
    store.delete(&path)
}
