//! Builds the summary of a collection and the summary of a run.

use crds::{
    contract::RunnerConfig,
    summary::{CollectionPointer, DenseRun, ProcessingSummary, RerankRun, RunInfo, SCHEMA_VERSION},
};

use super::{
    super::{commit::Commit, rerank::Reranked},
    StoredSummary, collections, shards,
    telemetry::{self, MAX_EVENTS},
    warnings,
};
use crate::{
    config::toggles::Toggles,
    plan::{Plan, PlannedCollection},
};

/// The summary of a collection; `commits` are the markers of its shards.
pub fn of_collection(
    config: &RunnerConfig,
    toggles: &Toggles,
    plan: &Plan,
    planned: &PlannedCollection,
    commits: &[&Commit],
    reranked: &Reranked,
) -> ProcessingSummary {
    let mut summary = common(config, toggles, plan, commits, reranked.run.clone());
    summary.collection = Some(planned.name.clone());
    summary.skipped_chunks = planned.skipped;
    summary.quality.clone_from(&reranked.quality);
    summary.gate.clone_from(&reranked.gate);
    summary.examples.clone_from(&reranked.examples);
    summary.warnings.extend(warnings::ignored_files(planned));
    summary.warnings.extend(warnings::left_out(planned));
    summary.warnings.extend(warnings::few_chunks(planned, &reranked.run));
    summary.warnings.extend(warnings::not_compared(planned, reranked.gate.as_ref()));
    if plan.collections.len() == 1 {
        summary.warnings.extend(warnings::unknown_ids(&reranked.unknown_ids));
    }
    let telemetry = &mut summary.telemetry;
    telemetry.samples = commits.iter().flat_map(|commit| commit.trace.samples.clone()).collect();
    telemetry.samples.extend(reranked.trace.samples.clone());
    telemetry.lease_events.extend(reranked.trace.leases.clone());
    telemetry.mitigation_events.extend(reranked.trace.mitigations.clone());
    telemetry.samples.truncate(MAX_EVENTS);
    summary
}

/// The summary of a run; `summaries` and `reranks` are those of its collections, in the order of the plan.
pub fn of_run(
    config: &RunnerConfig,
    toggles: &Toggles,
    plan: &Plan,
    commits: &[&Commit],
    summaries: &[StoredSummary],
    reranks: &[Reranked],
) -> ProcessingSummary {
    let pointer = |(planned, stored): (&PlannedCollection, &StoredSummary)| CollectionPointer {
        name: planned.name.clone(),
        chunk_count: stored.summary.chunk_count,
        summary: config.collection_summary_uri(&planned.name),
        sha256: stored.sha256.clone(),
    };
    let mut summary = common(config, toggles, plan, commits, collections::total_rerank(reranks));
    summary.collections = plan.collections.iter().zip(summaries).map(pointer).collect();
    summary.skipped_chunks = plan.collections.iter().map(|planned| planned.skipped).sum();
    summary.gate = collections::worst_gate(config, reranks);
    summary.warnings.extend(plan.collections.iter().filter_map(warnings::ignored_files));
    summary.warnings.extend(plan.collections.iter().filter_map(warnings::left_out));
    summary.warnings.extend(
        plan.collections
            .iter()
            .zip(reranks)
            .filter_map(|(planned, reranked)| warnings::not_compared(planned, reranked.gate.as_ref())),
    );
    // A query may be about one collection only: an id is unknown if no collection has it.
    let in_no_collection =
        reranks.iter().map(|reranked| reranked.unknown_ids.clone()).reduce(|left, right| &left & &right);
    summary.warnings.extend(warnings::unknown_ids(&in_no_collection.unwrap_or_default()));
    summary
}

fn common(
    config: &RunnerConfig,
    toggles: &Toggles,
    plan: &Plan,
    commits: &[&Commit],
    rerank_run: RerankRun,
) -> ProcessingSummary {
    let passes = shards::dense(commits);
    let sparse_run = shards::sparse(config, toggles, commits);
    let fusion_run = shards::fusion(commits);
    let export_run = shards::export(config, commits);
    let fallbacks = shards::merge_fallbacks(commits.iter().flat_map(|commit| &commit.dense_fallbacks));
    let warnings = fallbacks
        .iter()
        .map(|fallback| format!("optional model {} was skipped: {}", fallback.model, fallback.message))
        .chain(fusion_run.as_ref().and_then(|_| warnings::fused_by_cosine(&passes)))
        .collect();
    ProcessingSummary {
        schema_version: SCHEMA_VERSION.into(),
        generated_at: jiff::Timestamp::now().to_string(),
        run: RunInfo {
            namespace: config.run.namespace.clone(),
            name: config.run.name.clone(),
            revision: config.revision.to_string(),
            runner_version: env!("CARGO_PKG_VERSION").into(),
        },
        collection: None,
        collections: Vec::new(),
        chunk_count: commits.iter().map(|commit| commit.rows).sum(),
        skipped_chunks: 0,
        feature_toggles: toggles.features.clone(),
        device_run: shards::device(commits, &rerank_run),
        telemetry: telemetry::telemetry(
            plan,
            commits,
            &passes,
            &sparse_run,
            fusion_run.as_ref(),
            &rerank_run,
            &export_run,
        ),
        sparse_run,
        fusion_run,
        rerank_run,
        quality: None,
        gate: None,
        examples: Vec::new(),
        dense_run: DenseRun { passes, fallbacks },
        export_run,
        warnings,
    }
}
