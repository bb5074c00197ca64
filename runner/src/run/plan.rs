//! The plan stage: a complete revision is published again, a planned one keeps its plan, otherwise the sources are read
//! and cut into shards.

use crds::{
    contract::{FailureReason, FinalizeResult, PlanResult},
    layout,
};

use super::{Run, pointer, publish};
use crate::{
    config::toggles,
    hub,
    plan::{Plan, source_changes},
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
    // Before anything is read or computed for readers whom another run serves.
    pointer::check_owner(run)?;
    let planned = load(run)?;
    if let Some(result) = publish::complete_result(run)? {
        let plan = planned.ok_or_else(|| {
            let path = run.store.uri_of(&layout::plan(&run.config.revision));
            let message = format!(
                "revision {} is complete, but {path} is missing, which says what it is of: change spec.rerunToken to \
                 compute it again",
                run.config.revision
            );
            StageError::new(FailureReason::StoreUnavailable, message)
        })?;
        return publish_again(run, &plan, result);
    }
    check_writable(&run.store, run.config.revision.as_str())?;
    let plan = match planned {
        Some(plan) => {
            tracing::info!(shards = plan.shards.len(), "already planned");
            if let Some(changed) = source_changes(&plan, &run.config) {
                tracing::warn!("{changed}");
            }
            pointer::record_plan_time(run, &pointer::claim_now(run)?)?;
            plan
        }
        None => write(run, shard_size)?,
    };
    Ok(PlanResult { shards: plan.shards.len() as u32, chunks: plan.chunks(), complete: None })
}

/// Publishes a complete revision: the spec may have returned to it after another one was published.
fn publish_again(run: &Run, plan: &Plan, result: FinalizeResult) -> Result<PlanResult> {
    pointer::publish(run, &pointer::claim_now(run)?)?;
    let chunks = result.totals.chunks;
    tracing::info!(revision = %run.config.revision, chunks, "revision already complete, nothing to compute");
    let source_changed = source_changes(plan, &run.config);
    if let Some(changed) = &source_changed {
        tracing::warn!("{changed}");
    }
    let complete = Some(FinalizeResult { source_changed, ..result });
    Ok(PlanResult { shards: plan.shards.len() as u32, chunks, complete })
}

/// The plan of the revision; `None` if it is not written yet.
///
/// # Errors
/// If the plan cannot be read, is of another identity, or was made with other toggles.
pub(super) fn load(run: &Run) -> Result<Option<Plan>> {
    let path = layout::plan(&run.config.revision);
    let Some(bytes) = run.store.get(&path)? else {
        return Ok(None);
    };
    let uri = run.store.uri_of(&path);
    let plan = Plan::parse(&bytes, &uri, &run.config.revision)?;
    if let Some(identity) = plan.identity_sha256.as_deref().filter(|identity| !is_of(run, identity)) {
        let message = format!(
            "{uri} is the plan of another manifest: its identity has the sha256 {identity}, that of this run {}; give \
             the run another spec.output",
            run.config.identity_sha256
        );
        return Err(StageError::new(FailureReason::OutputConflict, message));
    }
    match toggles::difference(&plan.toggles, &run.toggles.of_content(&run.config)) {
        Some(difference) => Err(other_toggles(run, &difference)),
        None => Ok(Some(plan)),
    }
}

/// Whether `identity` is the sha256 of the run's identity; a configuration of an earlier release does not say.
fn is_of(run: &Run, identity: &str) -> bool {
    run.config.identity_sha256.is_empty() || run.config.identity_sha256 == identity
}

/// The error of a process whose toggles differ from those that the revision was planned or computed with.
pub(super) fn other_toggles(run: &Run, difference: &str) -> StageError {
    let message = format!(
        "{difference}: all shards of revision {} must have the same content; use the value of the plan here, or change \
         the manifest (spec.toggles, spec.models), which is a new revision",
        run.config.revision.short()
    );
    StageError::new(FailureReason::InvalidConfiguration, message)
}

fn write(run: &Run, shard_size: u64) -> Result<Plan> {
    // Before the sources are read, and long before a shard takes a GPU.
    let commits = hub::commits(&run.config, &run.interrupt)?;
    let queries_sha256 = check_queries(run)?;
    let progress = Progress::counter(run.show_progress, "planning");
    let (plan, seconds) = timed(tracing::info_span!(telemetry::PLAN), || {
        Plan::build(&run.config, &run.toggles, shard_size, &run.interrupt, &progress)
    });
    progress.finish();
    // Not before the plan of a published revision, also if the clock of this machine is behind.
    let created_at = pointer::claim_now(run)?.planned_at.to_string();
    let plan = Plan { seconds, commits, queries_sha256, created_at, ..plan? };
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
