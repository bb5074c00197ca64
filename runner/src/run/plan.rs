//! The plan stage: a complete revision is published again, a planned one keeps its plan, otherwise the sources are read
//! and cut into shards.

use crds::{
    contract::{FailureReason, FinalizeResult, PlanResult},
    identity::Revision,
    layout,
    pointer::Claim,
};

use super::{Run, changes, models::open_models, planned, pointer, publish};
use crate::{
    hub,
    pass::ModelKind,
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
/// If the output is not writable, a model cannot be used or has changed since an earlier plan, a source or the queries cannot
/// be read, the hub fails, or the run is interrupted.
pub fn plan(run: &Run, shard_size: u64) -> Result<PlanResult> {
    // Before anything is read or computed for readers whom another run serves.
    let claim = pointer::take_up(run)?;
    let planned = planned::load(run)?;
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
        return publish_again(run, &plan, &claim, result);
    }
    check_writable(&run.store, run.config.revision.as_str())?;
    let plan = if let Some(plan) = planned {
        tracing::info!(shards = plan.shards.len(), "already planned");
        check_models(run, &plan)?;
        if let Some(changed) = changes::since(&plan, run) {
            tracing::warn!("{changed}");
        }
        pointer::record_plan_time(run, &claim)?;
        plan
    } else {
        warn_of_short_revision(run)?;
        write(run, &claim, shard_size)?
    };
    Ok(PlanResult { shards: plan.shards.len() as u32, chunks: plan.chunks(), complete: None })
}

/// Warns if an earlier release has computed the revision under its short form: that folder is not used, because its plan
/// does not say of which identity it is.
fn warn_of_short_revision(run: &Run) -> Result<()> {
    let revision = &run.config.revision;
    let short = Revision::from_recorded(revision.short());
    if short != *revision && run.store.find(&layout::plan(&short))?.is_some() {
        tracing::warn!(
            "{} is of an earlier release, whose revisions had ten digits: everything is computed again in {}; delete the \
             older folder when no reader uses it",
            run.store.uri_of(&layout::revision(&short)),
            run.store.uri_of(&layout::revision(revision))
        );
    }
    Ok(())
}

/// Publishes a complete revision: the spec may have returned to it after another one was published.
fn publish_again(run: &Run, plan: &Plan, claim: &Claim, result: FinalizeResult) -> Result<PlanResult> {
    pointer::publish(run, claim)?;
    let chunks = result.totals.chunks;
    tracing::info!(revision = %run.config.revision, chunks, "revision already complete, nothing to compute");
    let source_changed = changes::since(plan, run);
    if let Some(changed) = &source_changed {
        tracing::warn!("{changed}");
    }
    let complete = Some(FinalizeResult { source_changed, ..result });
    Ok(PlanResult { shards: plan.shards.len() as u32, chunks, complete })
}

fn write(run: &Run, claim: &Claim, shard_size: u64) -> Result<Plan> {
    // Before the sources are read, and long before a shard takes a GPU.
    let commits = hub::commits(&run.config, &run.interrupt)?;
    let models = open_models(run, &commits)?;
    let queries_sha256 = check_queries(run)?;
    let progress = Progress::counter(run.show_progress, "planning");
    let (plan, seconds) = timed(tracing::info_span!(telemetry::PLAN), || {
        Plan::build(&run.config, &run.toggles, shard_size, &run.interrupt, &progress)
    });
    progress.finish();
    // The time at which the stage began: what another process planned and published since then is later.
    let created_at = claim.planned_at.to_string();
    let plan = Plan { created_at, seconds, commits, models, queries_sha256, ..plan? };
    let path = layout::plan(&run.config.revision);
    let reply = run.store.put_new(&path, plan.to_json());
    let plan = match (reply, planned::load(run)) {
        (Ok(PutNew::Written), _) => plan,
        // Another attempt wrote its plan first, or this one did and the reply was lost; every shard uses that plan.
        (_, Ok(Some(plan))) => plan,
        // It is not whole, so no shard has used it.
        (Ok(PutNew::Existed), Ok(None)) => {
            run.store.put(&path, plan.to_json())?;
            plan
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    tracing::info!(shards = plan.shards.len(), chunks = plan.chunks(), seconds, "planned");
    Ok(plan)
}

/// Opens the models again and compares them with those of the plan: a shard may still need them.
fn check_models(run: &Run, plan: &Plan) -> Result<()> {
    let opened = open_models(run, &plan.commits)?;
    let models = run.config.dense.iter().map(|model| (ModelKind::Dense, &model.name, &model.source));
    let sparse = run.config.sparse.iter().map(|model| (ModelKind::Sparse, &model.name, &model.source));
    let reranker = run.config.reranker.iter().map(|model| (ModelKind::Reranker, &model.name, &model.source));
    for (kind, name, source) in models.chain(sparse).chain(reranker) {
        if let Some(found) = opened.get(&kind.key(name)) {
            run.pins(plan).check_plan(kind, name, &source.uri, found)?;
        }
    }
    Ok(())
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
