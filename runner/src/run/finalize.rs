//! The finalize stage: reranks every collection, writes the summaries and the report, and publishes the revision.

use crds::{
    contract::{FailureReason, FinalizeResult},
    layout,
    summary::ProcessingSummary,
    v1alpha1::FallbackSource,
};

use super::{
    Run, columns,
    commit::Commit,
    planned, pointer, publish,
    rerank::rerank,
    summary::{self, StoredSummary},
};
use crate::{
    plan::Plan,
    process::{
        error::{Result, StageError},
        message::first_few,
        metrics::METRICS,
    },
};

/// Completes a revision: reranks, writes the summaries and publishes. If the revision is already complete, returns its
/// stored result.
///
/// # Errors
/// If shards are not committed, shards were embedded with different models, the gate rejects the revision, a device or
/// the store fails, or the run is interrupted.
pub fn finalize(run: &Run) -> Result<FinalizeResult> {
    let revision = &run.config.revision;
    let plan = planned::load(run)?.ok_or_else(|| {
        let message = format!("{} is missing: run the plan stage first", run.store.uri_of(&layout::plan(revision)));
        StageError::new(FailureReason::ShardsMissing, message)
    })?;
    let claim = pointer::claim(run, &plan)?;
    if let Some(result) = publish::complete_result(run)? {
        pointer::publish(run, &claim)?;
        return Ok(result);
    }
    pointer::check(run, &claim)?;
    let commits = load_commits(run, &plan)?;
    check_weights(&commits)?;
    check_fusion(&commits)?;
    columns::check(&run.store, &commits)?;

    let mut stored = Vec::with_capacity(plan.collections.len());
    let mut reranks = Vec::with_capacity(plan.collections.len());
    for planned in &plan.collections {
        let of_collection: Vec<&Commit> = commits.iter().filter(|commit| commit.collection == planned.name).collect();
        let reranked = rerank(run, &plan, planned, &of_collection)?;
        let summary = summary::of_collection(&run.config, &run.toggles, &plan, planned, &of_collection, &reranked);
        let sha256 = summary::write(&run.store, &layout::collection_summary(revision, &planned.name), &summary)?;
        stored.push(StoredSummary { summary, sha256 });
        reranks.push(reranked);
    }
    let summary =
        summary::of_run(&run.config, &run.toggles, &plan, &commits.iter().collect::<Vec<_>>(), &stored, &reranks);
    if let Some(fallback) = summary.sparse_run.fallback.filter(|fallback| fallback.source == FallbackSource::Toggle) {
        METRICS.fallback("sparse", fallback.reason, fallback.source, fallback.count);
    }
    let rejection = publish::gate_failure(run, &summary, &stored);
    if rejection.is_none() {
        pointer::publish(run, &claim)?;
    }
    let collections: Vec<ProcessingSummary> = stored.iter().map(|stored| stored.summary.clone()).collect();
    match report::html(&summary, &collections) {
        Ok(html) => run.store.put(&layout::report(revision), html.into_bytes())?,
        // The report is not essential: the summaries have the same figures.
        Err(error) => tracing::warn!("no report: it cannot be rendered: {error}"),
    }
    // Last: its presence means that the revision is complete.
    let sha256 = summary::write(&run.store, &layout::run_summary(revision), &summary)?;
    if let Some(error) = rejection {
        return Err(error);
    }
    tracing::info!(%revision, chunks = summary.chunk_count, "revision complete");
    Ok(summary::result(&run.config, &StoredSummary { summary, sha256 }, &stored))
}

/// The markers of all shards, in the order of the plan.
fn load_commits(run: &Run, plan: &Plan) -> Result<Vec<Commit>> {
    let mut commits = Vec::with_capacity(plan.shards.len());
    let mut missing = Vec::new();
    for (index, shard) in (0..).zip(&plan.shards) {
        match Commit::load(&run.store, &run.config.revision, &shard.collection, index)? {
            Some(commit) => commits.push(commit),
            None => missing.push(index.to_string()),
        }
    }
    if missing.is_empty() {
        return Ok(commits);
    }
    let message = format!(
        "{} of {} shards are not committed: {}; run the embed stage for them first",
        missing.len(),
        plan.shards.len(),
        first_few(&missing)
    );
    Err(StageError::new(FailureReason::ShardsMissing, message))
}

/// Checks that all shards were embedded with the same weights: a model folder may change during a run, and vectors of
/// different weights cannot be compared.
fn check_weights(commits: &[Commit]) -> Result<()> {
    let Some(first) = commits.first() else {
        return Ok(());
    };
    for commit in commits {
        for expected in &first.dense {
            let Some(pass) = commit.dense.iter().find(|pass| pass.model == expected.model) else { continue };
            if pass.weights_sha256 != expected.weights_sha256 {
                let message = format!(
                    "model {}: shards {} and {} were embedded with different weights ({} and {}): the folder {} \
                     changed during the run; change spec.rerunToken to embed everything again",
                    expected.model,
                    first.shard,
                    commit.shard,
                    expected.weights_sha256,
                    pass.weights_sha256,
                    expected.source
                );
                return Err(StageError::new(FailureReason::InvalidModel, message));
            }
        }
    }
    Ok(())
}

/// Checks that all shards fused the same models: an optional model may fail in some shards only, and fused vectors of
/// different models cannot be compared.
fn check_fusion(commits: &[Commit]) -> Result<()> {
    let models = |commit: &Commit| -> Option<Vec<String>> {
        Some(commit.fusion.as_ref()?.models.iter().map(|fused| fused.model.clone()).collect())
    };
    let Some(first) = commits.first() else { return Ok(()) };
    match commits.iter().find(|commit| models(commit) != models(first)) {
        None => Ok(()),
        Some(different) => {
            let names = |commit: &Commit| models(commit).unwrap_or_default().join(", ");
            let message = format!(
                "the fused vectors of shards {} and {} are of different models ({} and {}): an optional model failed \
                 in some shards only; fix it and change spec.rerunToken, or remove it from spec.models.dense",
                first.shard,
                different.shard,
                names(first),
                names(different)
            );
            Err(StageError::new(FailureReason::InvalidModel, message))
        }
    }
}
