//! The plan stage: what is complete stays, what is planned stays planned, else the sources are read and sliced.

use crds::{
    contract::{FailureReason, PlanResult},
    layout,
};

use super::{Run, publish};
use crate::{
    error::{Result, StageError},
    hub,
    plan::Plan,
    progress::Progress,
    quality::Metric,
    queries::QueryFile,
    store::{PutNew, Store},
    telemetry::{self, timed},
};

/// Makes the plan of a revision, once. `shard_size` counts only where there is no plan yet.
pub fn plan(run: &Run, shard_size: u64) -> Result<PlanResult> {
    if let Some(result) = publish::stored_result(run)? {
        // The spec may have come back to this revision after another one.
        publish::point(run)?;
        let chunks = result.totals.chunks;
        let shards = load(run)?.map_or(0, |plan| plan.shards.len() as u32);
        tracing::info!(revision = %run.config.revision, chunks, "complete already: nothing to do");
        return Ok(PlanResult { shards, chunks, complete: Some(result) });
    }
    probe(&run.store, run.config.revision.as_str())?;
    let plan = match load(run)? {
        Some(plan) => {
            tracing::info!(shards = plan.shards.len(), "planned already");
            plan
        }
        None => write(run, shard_size)?,
    };
    Ok(PlanResult { shards: plan.shards.len() as u32, chunks: plan.chunks(), complete: None })
}

/// The plan of the revision, if it is written.
pub(super) fn load(run: &Run) -> Result<Option<Plan>> {
    let path = layout::plan(&run.config.revision);
    let Some(bytes) = run.store.get(&path)? else {
        return Ok(None);
    };
    Plan::parse(&bytes, &run.store.uri_of(&path), &run.config.revision).map(Some)
}

fn write(run: &Run, shard_size: u64) -> Result<Plan> {
    // Before everything is read, and long before a shard takes an accelerator.
    let commits = hub::commits(&run.config, &run.interrupt)?;
    let queries_sha256 = queries(run)?;
    let progress = Progress::counter(run.watched, "planning");
    let (plan, seconds) =
        timed(tracing::info_span!(telemetry::PLAN), || Plan::build(&run.config, shard_size, &run.interrupt, &progress));
    progress.finish();
    let plan = Plan { seconds, commits, queries_sha256, ..plan? };
    let path = layout::plan(&run.config.revision);
    match run.store.put_new(&path, plan.to_json())? {
        PutNew::Written => {
            tracing::info!(shards = plan.shards.len(), chunks = plan.chunks(), seconds, "planned");
            Ok(plan)
        }
        // Another attempt was faster; its plan counts.
        PutNew::Existed => Ok(load(run)?.unwrap_or(plan)),
    }
}

/// Reads and checks the queries; the answer is the sha256 of their file.
fn queries(run: &Run) -> Result<Option<String>> {
    let Some(rerank) = &run.config.rerank else { return Ok(None) };
    let file = rerank.queries.as_ref().map(QueryFile::read).transpose()?;
    if let Some(gate) = &rerank.gate {
        let invalid = |message| StageError::new(FailureReason::InvalidConfiguration, message);
        gate.metric.parse::<Metric>().map_err(|error| invalid(format!("spec.rerank.gate.metric: {error}")))?;
        if !file.as_ref().is_some_and(QueryFile::has_judgements) {
            let message = "spec.rerank.gate needs judgements: give queries with relevant chunks, or leave the gate out";
            return Err(invalid(message.to_owned()));
        }
    }
    Ok(file.map(|file| file.sha256))
}

/// Finds out that the output cannot be written before anything is computed for it.
fn probe(store: &Store, revision: &str) -> Result<()> {
    let path = format!("runs/{revision}/.probe-{}", std::process::id());
    store.put_new(&path, Vec::new())?;
    store.delete(&path)
}
