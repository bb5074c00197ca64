//! The finalize stage: every shard is committed → summaries of the collections → pointers → summary of the run.

use crds::{
    contract::{FailureReason, FinalizeResult},
    layout,
    summary::ProcessingSummary,
    v1alpha1::FallbackSource,
};

use super::{Commit, Run, plan, publish, rerank};
use crate::{
    error::{Result, StageError},
    metrics::METRICS,
    plan::Plan,
    summary,
};

/// Completes a revision. One that is complete gives the result that it has.
pub fn finalize(run: &Run) -> Result<FinalizeResult> {
    let revision = &run.config.revision;
    if let Some(result) = publish::stored_result(run)? {
        publish::point(run)?;
        return Ok(result);
    }
    let plan = plan::load(run)?.ok_or_else(|| {
        let message = format!("{} is not there: the plan stage comes first", run.store.uri_of(&layout::plan(revision)));
        StageError::new(FailureReason::ShardsMissing, message)
    })?;
    let commits = commits(run, &plan)?;
    same_weights(&commits)?;
    same_fusion(&commits)?;

    let mut stored = Vec::with_capacity(plan.collections.len());
    let mut reranks = Vec::with_capacity(plan.collections.len());
    for planned in &plan.collections {
        let of_collection: Vec<&Commit> = commits.iter().filter(|commit| commit.collection == planned.name).collect();
        let reranked = rerank::rerank(run, &plan, planned, &of_collection)?;
        let summary = summary::of_collection(run, &plan, planned, &of_collection, &reranked);
        let sha256 = publish::write(run, &layout::collection_summary(revision, &planned.name), &summary)?;
        stored.push(publish::Stored { summary, sha256 });
        reranks.push(reranked);
    }
    let summary = summary::of_run(run, &plan, &commits.iter().collect::<Vec<_>>(), &stored, &reranks);
    if let Some(fallback) = summary.sparse_run.fallback.filter(|fallback| fallback.source == FallbackSource::Toggle) {
        METRICS.fallback("sparse", fallback.reason, fallback.source, fallback.count);
    }
    let failed = publish::gate_failure(run, &summary, &stored);
    if failed.is_none() {
        publish::point(run)?;
    }
    let collections: Vec<ProcessingSummary> = stored.iter().map(|stored| stored.summary.clone()).collect();
    match report::html(&summary, &collections) {
        Ok(html) => run.store.put(&layout::report(revision), html.into_bytes())?,
        // The summaries say the same.
        Err(error) => tracing::warn!("no report is written: {error}"),
    }
    // Last: its presence says that all the rest is there.
    let sha256 = publish::write(run, &layout::run_summary(revision), &summary)?;
    if let Some(error) = failed {
        return Err(error);
    }
    tracing::info!(%revision, chunks = summary.chunk_count, "complete");
    Ok(summary::result(&run.config, &publish::Stored { summary, sha256 }, &stored))
}

/// The markers of all shards, in the order of the plan.
fn commits(run: &Run, plan: &Plan) -> Result<Vec<Commit>> {
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
        "{} of {} shards are not committed: {}; embed them first",
        missing.len(),
        plan.shards.len(),
        crate::plan::some_of(&missing)
    );
    Err(StageError::new(FailureReason::ShardsMissing, message))
}

/// Vectors of different weights cannot be compared: a model folder that changed under a run spoils it.
fn same_weights(commits: &[Commit]) -> Result<()> {
    let Some(first) = commits.first() else {
        return Ok(());
    };
    for commit in commits {
        for one in &first.dense {
            let Some(other) = commit.dense.iter().find(|other| other.model == one.model) else { continue };
            if one.weights_sha256 != other.weights_sha256 {
                let message = format!(
                    "model {}: shards {} and {} were embedded with different weights ({} and {}): the folder {} \
                     changed during the run; change spec.rerunToken to embed everything again",
                    one.model, first.shard, commit.shard, one.weights_sha256, other.weights_sha256, one.source
                );
                return Err(StageError::new(FailureReason::InvalidModel, message));
            }
        }
    }
    Ok(())
}

/// Fused vectors of different models cannot be compared: an optional model that failed in some shards only spoils them.
fn same_fusion(commits: &[Commit]) -> Result<()> {
    let models = |commit: &Commit| -> Option<Vec<String>> {
        Some(commit.fusion.as_ref()?.models.iter().map(|fused| fused.model.clone()).collect())
    };
    let Some(first) = commits.first() else { return Ok(()) };
    match commits.iter().find(|commit| models(commit) != models(first)) {
        None => Ok(()),
        Some(other) => {
            let named = |commit: &Commit| models(commit).unwrap_or_default().join(", ");
            let message = format!(
                "the fused vectors of shards {} and {} are of different models ({} and {}): an optional model failed in \
                 some shards only; mend it and change spec.rerunToken, or take it out of spec.models.dense",
                first.shard,
                other.shard,
                named(first),
                named(other)
            );
            Err(StageError::new(FailureReason::InvalidModel, message))
        }
    }
}
