//! The finalize stage: reranks every collection, writes the summaries and the report, and publishes the revision.

use std::collections::BTreeMap;

use crds::{
    contract::{FailureReason, FinalizeResult},
    layout,
    summary::ProcessingSummary,
    v1alpha1::FallbackSource,
};

use super::{
    Run, columns,
    commit::{self, Commit, Depth},
    planned, pointer, publish,
    rerank::{RelevantIds, rerank},
    summary::{self, StoredSummary},
};
use crate::process::{
    error::{Result, StageError},
    metrics::METRICS,
};

/// Completes a revision: reranks, writes the summaries and publishes. If the revision is already complete, returns its
/// stored result.
///
/// # Errors
/// If shards are not committed or their files are damaged, shards were embedded with different models, the gate rejects
/// the revision, a device or the store fails, or the run is interrupted.
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
    let commits = commit::survey(&run.store, revision, &plan, run.recheck.depth)?;
    check_models(&commits)?;
    check_fusion(&commits)?;
    columns::check(&run.store, &commits)?;

    let relevant = RelevantIds::read(run, &plan, &commits)?;
    let mut stored = Vec::with_capacity(plan.collections.len());
    let mut reranks = Vec::with_capacity(plan.collections.len());
    for planned in &plan.collections {
        let of_collection: Vec<&Commit> = commits.iter().filter(|commit| commit.collection == planned.name).collect();
        let reranked = rerank(run, &plan, planned, &of_collection, &relevant)?;
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
        // The rerank may have taken hours: readers are pointed to files that are there now.
        if publish::defect(run, stored.iter(), Depth::Size)?.is_some() {
            commit::survey(&run.store, revision, &plan, Depth::Size)?;
        }
        pointer::publish(run, &claim)?;
    }
    let collections: Vec<ProcessingSummary> = stored.iter().map(|stored| stored.summary.clone()).collect();
    match report::html(&summary, &collections) {
        Ok(html) => run.store.put(&layout::report(revision), html.into_bytes())?,
        // The report is not essential: the summaries have the same figures.
        Err(error) => tracing::warn!("no report: it cannot be rendered: {error}"),
    }
    delete_leftovers(run, &commits);
    // Last: its presence means that the revision is complete.
    let sha256 = summary::write(&run.store, &layout::run_summary(revision), &summary)?;
    if let Some(error) = rejection {
        return Err(error);
    }
    tracing::info!(%revision, chunks = summary.chunk_count, "revision complete");
    Ok(summary::result(&run.config, &StoredSummary { summary, sha256 }, &stored))
}

/// Deletes what attempts left that did not commit: files that no marker names, and unfinished ones. Nobody reads or
/// writes the revision any more.
fn delete_leftovers(run: &Run, commits: &[Commit]) {
    let revision = &run.config.revision;
    let collections = run.config.collections.iter().map(|collection| layout::collection(revision, &collection.name));
    let folders = collections.chain([layout::revision(revision)]);
    let unfinished = folders.map(|folder| run.store.delete_leftovers(&folder, layout::PART));
    let unnamed = commits.iter().map(|commit| {
        let folder = layout::shard(revision, &commit.collection, commit.shard);
        let named: Vec<&str> = commit.files().map(|file| file.path).collect();
        run.store.keep_only(&folder, |path| layout::is_marker(path) || named.contains(&path))
    });
    if let Some(error) = unfinished.chain(unnamed).find_map(Result::err) {
        tracing::warn!("cannot delete the leftovers of attempts: {}", error.sentence());
    }
}

/// Checks that all shards were embedded with the same models: a folder may change during a run, and vectors of different
/// models cannot be compared. Every load is compared with the first one; this compares what the shards have recorded, also
/// of earlier releases.
fn check_models(commits: &[Commit]) -> Result<()> {
    let mut first: BTreeMap<(&str, &str), (u32, [&str; 2])> = BTreeMap::new();
    for commit in commits {
        let dense = commit.dense.iter().map(|pass| ("dense", &pass.model, &pass.model_sha256, &pass.weights_sha256));
        let sparse = commit.sparse.iter().map(|pass| ("sparse", &pass.model, &pass.model_sha256, &pass.weights_sha256));
        for (kind, model, of_files, of_weights) in dense.chain(sparse) {
            let digests = [of_files.as_str(), of_weights.as_str()];
            // A sparse model that could not be loaded has neither.
            if digests == [""; 2] {
                continue;
            }
            let (shard, expected) = *first.entry((kind, model)).or_insert((commit.shard, digests));
            // Earlier releases recorded the weights alone.
            let both =
                digests.into_iter().zip(expected).find(|(found, expected)| !found.is_empty() && !expected.is_empty());
            if let Some((found, expected)) = both.filter(|(found, expected)| found != expected) {
                let message = format!(
                    "{kind} model {model}: shards {shard} and {} were embedded with different files ({expected} and \
                     {found}): the model changed during the run; change spec.rerunToken to embed everything again",
                    commit.shard
                );
                return Err(StageError::new(FailureReason::ModelChanged, message));
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
                "the fused vectors of shards {} and {} are of different models ({} and {}): run again with \
                 EMBEDRUN_RETRY_FALLBACKS=true, which embeds only the shards without a model, or change spec.rerunToken",
                first.shard,
                different.shard,
                names(first),
                names(different)
            );
            Err(StageError::new(FailureReason::InvalidModel, message))
        }
    }
}
