//! From the plan and the commit markers to the summaries, and from the summaries to the result. No input or output.

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    contract::{CollectionResult, DenseResult, FinalizeResult, RunnerConfig, StageFallback, StageResult},
    summary::{
        CollectionPointer, DensePass, DenseRun, DeviceRun, ExportRun, ExportedFile, Fallback, FusionRun, GateOutcome,
        LengthBucket, ModelFallback, ProcessingSummary, Quality, RerankRun, RunInfo, SCHEMA_VERSION, SpanSummary,
        SparsePass, SparseRun, Telemetry,
    },
    v1alpha1::{FallbackReason, FallbackSource},
};

use crate::{
    plan::{Plan, PlannedCollection, some_of},
    stage::{Commit, Reranked, Run, Stored},
    telemetry,
};

/// The most events of a kind that a summary has.
const MOST_EVENTS: usize = 500;

/// The summary of a collection.
pub fn of_collection(
    run: &Run,
    plan: &Plan,
    planned: &PlannedCollection,
    commits: &[&Commit],
    reranked: &Reranked,
) -> ProcessingSummary {
    let mut summary = common(run, plan, commits, reranked.run.clone());
    summary.collection = Some(planned.name.clone());
    summary.skipped_chunks = planned.skipped;
    summary.quality.clone_from(&reranked.quality);
    summary.gate.clone_from(&reranked.gate);
    summary.examples.clone_from(&reranked.examples);
    summary.warnings.extend(warnings(planned));
    summary.warnings.extend(small(planned, &reranked.run));
    if plan.collections.len() == 1 {
        summary.warnings.extend(unknown(&reranked.unknown));
    }
    let telemetry = &mut summary.telemetry;
    telemetry.samples = commits.iter().flat_map(|commit| commit.trace.samples.clone()).collect();
    telemetry.samples.extend(reranked.trace.samples.clone());
    telemetry.lease_events.extend(reranked.trace.leases.clone());
    telemetry.mitigation_events.extend(reranked.trace.mitigations.clone());
    telemetry.samples.truncate(MOST_EVENTS);
    summary
}

/// The summary of a run; `collections` are the summaries of its collections.
pub fn of_run(
    run: &Run,
    plan: &Plan,
    commits: &[&Commit],
    collections: &[Stored],
    reranks: &[Reranked],
) -> ProcessingSummary {
    let pointer = |(planned, stored): (&PlannedCollection, &Stored)| CollectionPointer {
        name: planned.name.clone(),
        chunk_count: stored.summary.chunk_count,
        summary: run.config.collection_summary_uri(&planned.name),
        sha256: stored.sha256.clone(),
    };
    let mut summary = common(run, plan, commits, sum_of(reranks));
    summary.collections = plan.collections.iter().zip(collections).map(pointer).collect();
    summary.skipped_chunks = plan.collections.iter().map(|planned| planned.skipped).sum();
    summary.gate = gate(run, reranks);
    summary.warnings.extend(plan.collections.iter().filter_map(warnings));
    // A query may be about one collection only: an id is unknown when none has it.
    let nowhere = reranks.iter().map(|reranked| reranked.unknown.clone()).reduce(|one, other| &one & &other);
    summary.warnings.extend(unknown(&nowhere.unwrap_or_default()));
    summary
}

/// What the gate says of all collections: the first that it refuses, else the first.
fn gate(run: &Run, reranks: &[Reranked]) -> Option<GateOutcome> {
    let asked = run.config.rerank.as_ref()?.gate.as_ref()?;
    let said = || reranks.iter().filter_map(|reranked| reranked.gate.as_ref());
    let worst = said().find(|gate| !gate.passed).or_else(|| said().next());
    Some(worst.cloned().unwrap_or_else(|| GateOutcome {
        // Nothing was measured, so nothing is good enough.
        metric: asked.metric.clone(),
        value: 0.0,
        minimum: asked.minimum,
        maximum_drop: asked.maximum_drop,
        previous: None,
        passed: false,
    }))
}

/// The rerank stages of all collections as one.
fn sum_of(reranks: &[Reranked]) -> RerankRun {
    let mut sum = reranks.first().map(|reranked| reranked.run.clone()).unwrap_or_default();
    for RerankRun {
        executed,
        fallback,
        fallback_message,
        model,
        device,
        device_fallback,
        queries_from,
        queries,
        pairs,
        tokens,
        ..
    } in reranks.iter().skip(1).map(|reranked| &reranked.run)
    {
        sum.executed |= executed;
        sum.queries = sum.queries.max(*queries);
        sum.pairs += pairs;
        sum.tokens += tokens;
        sum.model = sum.model.take().or_else(|| model.clone());
        sum.device = sum.device.take().or_else(|| device.clone());
        sum.device_fallback = sum.device_fallback.or(*device_fallback);
        if sum.queries_from == crds::summary::QueryOrigin::None {
            sum.queries_from = *queries_from;
        }
        sum.fallback = match (sum.fallback, fallback) {
            // A toggle is one cause, whatever the number of collections.
            (Some(one), Some(other)) if one.source != FallbackSource::Toggle => {
                Some(Fallback { count: one.count + other.count, ..one })
            }
            (one, other) => one.or(*other),
        };
        sum.fallback_message = sum.fallback_message.take().or_else(|| fallback_message.clone());
    }
    for reranked in reranks.iter().skip(1) {
        sum.truncated_pairs += reranked.run.truncated_pairs;
        sum.batches += reranked.run.batches;
        sum.seconds += reranked.run.seconds;
    }
    if reranks.len() > 1 {
        // These are means and places of one collection.
        sum.median_query_seconds = None;
        sum.mean_top_score_before = None;
        sum.mean_top_score_after = None;
        sum.top_changed = None;
        sum.rankings = None;
    }
    sum
}

/// What the operator learns of a complete revision.
pub fn result(config: &RunnerConfig, run: &Stored, collections: &[Stored]) -> FinalizeResult {
    let whole = counts(config, run);
    let collections: Vec<CollectionResult> = collections.iter().map(|stored| counts(config, stored)).collect();
    let sum = |of: fn(&CollectionResult) -> u64| collections.iter().map(of).sum();
    FinalizeResult {
        summary_sha256: run.sha256.clone(),
        totals: CollectionResult {
            chunks: sum(|collection| collection.chunks),
            embedded: sum(|collection| collection.embedded),
            truncated: sum(|collection| collection.truncated),
            skipped: sum(|collection| collection.skipped),
            summary_sha256: String::new(),
            ..whole
        },
        device_fallbacks: run.summary.device_run.fallback_count,
        dense_fallback: run.summary.dense_run.fallbacks.first().map(|fallback| stage_fallback(&fallback.fallback)),
        collections,
        omitted: 0,
    }
}

fn counts(config: &RunnerConfig, stored: &Stored) -> CollectionResult {
    let summary = &stored.summary;
    let passes = &summary.dense_run.passes;
    // One per model of the spec, so that a model that was left out does not give its place to the next.
    let dense = config.dense.iter().map(|model| {
        let pass = passes.iter().find(|pass| pass.model == model.name);
        pass.map_or_else(DenseResult::default, |pass| DenseResult {
            dimensions: pass.dimensions,
            tokens: pass.tokens,
            seconds: pass.seconds.round() as u64,
        })
    });
    let (sparse, rerank) = (&summary.sparse_run, &summary.rerank_run);
    CollectionResult {
        chunks: summary.chunk_count,
        embedded: summary.chunk_count,
        truncated: passes.iter().map(|pass| pass.truncated_chunks).max().unwrap_or(0),
        skipped: summary.skipped_chunks,
        summary_sha256: stored.sha256.clone(),
        dense: dense.collect(),
        sparse: asked(sparse.enabled, sparse.fallback.as_ref()).then(|| StageResult {
            enabled: sparse.enabled,
            executed: sparse.executed,
            fallback: sparse.fallback.as_ref().map(stage_fallback),
            coverage: sparse.coverage.map(thousandths),
            candidates: None,
            millis: millis(sparse.seconds),
        }),
        rerank: asked(rerank.enabled, rerank.fallback.as_ref()).then(|| StageResult {
            enabled: rerank.enabled,
            executed: rerank.executed,
            fallback: rerank.fallback.as_ref().map(stage_fallback),
            coverage: None,
            candidates: Some(rerank.pairs),
            millis: millis(rerank.seconds),
        }),
        quality: summary.quality.as_ref().map(last_quality).unwrap_or_default(),
    }
}

/// Whether there is something to say of a stage.
fn asked(enabled: bool, fallback: Option<&Fallback>) -> bool {
    enabled || fallback.is_some()
}

fn stage_fallback(fallback: &Fallback) -> StageFallback {
    StageFallback { reason: fallback.reason, source: fallback.source, count: fallback.count }
}

/// The quality of the last list that was made.
fn last_quality(quality: &Quality) -> Vec<(String, u16)> {
    let last = quality.lists.last();
    last.iter().flat_map(|list| &list.metrics).map(|(metric, value)| (metric.clone(), thousandths(*value))).collect()
}

/// A share in thousandths, rounded down: what is not whole is not called so.
fn thousandths(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 1000.0 + 1e-9) as u16
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}

fn unknown(ids: &BTreeSet<String>) -> Option<String> {
    let ids: Vec<String> = ids.iter().cloned().collect();
    (!ids.is_empty())
        .then(|| format!("{} id(s) that queries call relevant are no chunks: {}", ids.len(), some_of(&ids)))
}

fn small(planned: &PlannedCollection, rerank: &RerankRun) -> Option<String> {
    (rerank.queries > 0 && planned.chunks < u64::from(rerank.top_k)).then(|| {
        format!("collection {}: topK is {}, but there are only {} chunks", planned.name, rerank.top_k, planned.chunks)
    })
}

fn warnings(planned: &PlannedCollection) -> Option<String> {
    let ignored = &planned.ignored_files;
    (!ignored.is_empty()).then(|| {
        format!(
            "collection {}: {} file(s) that no format is known for were left out: {}",
            planned.name,
            ignored.len(),
            some_of(ignored)
        )
    })
}

fn common(run: &Run, plan: &Plan, commits: &[&Commit], rerank_run: RerankRun) -> ProcessingSummary {
    let config = &run.config;
    let passes = passes(commits);
    let sparse_run = sparse(run, commits);
    let fusion_run = fusion(commits);
    let export_run = export(config, commits);
    let fallbacks = merged(commits.iter().flat_map(|commit| &commit.dense_fallbacks));
    let warnings = fallbacks
        .iter()
        .map(|left_out| format!("model {} was left out: {}", left_out.model, left_out.message))
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
        feature_toggles: run.toggles.features.clone(),
        device_run: device(commits, &rerank_run),
        telemetry: telemetry(plan, commits, &passes, &sparse_run, fusion_run.as_ref(), &rerank_run, &export_run),
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

/// The sparse stage over the shards.
fn sparse(run: &Run, commits: &[&Commit]) -> SparseRun {
    let features = &run.toggles.features;
    let asked = run.toggles.sparse_models(&run.config).len() as u64;
    let mut passes: Vec<SparsePass> = Vec::new();
    for pass in commits.iter().flat_map(|commit| &commit.sparse) {
        match passes.iter_mut().find(|sum| sum.model == pass.model) {
            None => passes.push(pass.clone()),
            Some(sum) => {
                sum.chunks += pass.chunks;
                sum.model_chunks += pass.model_chunks;
                sum.metadata_chunks += pass.metadata_chunks;
                sum.entries += pass.entries;
                sum.tokens += pass.tokens;
                sum.truncated_chunks += pass.truncated_chunks;
                sum.tokens_lost += pass.tokens_lost;
                sum.batches += pass.batches;
                sum.seconds += pass.seconds;
                sum.peak_bytes = sum.peak_bytes.max(pass.peak_bytes);
                sum.mitigations += pass.mitigations;
                also(&mut sum.dtype, &pass.dtype);
            }
        }
    }
    let live: u64 = passes.iter().map(|pass| pass.model_chunks).sum();
    let rows = asked * commits.iter().map(|commit| commit.rows).sum::<u64>();
    let first = merged(commits.iter().flat_map(|commit| &commit.sparse_fallbacks)).into_iter().next();
    let by_toggle = |reason| Fallback { reason, source: FallbackSource::Toggle, count: 1 };
    let (fallback, fallback_message) = match first {
        Some(first) => (Some(first.fallback), Some(first.message)),
        None if run.toggles.switched_off("sparse", features.sparse, !run.config.sparse.is_empty()) => {
            (Some(by_toggle(FallbackReason::FeatureDisabled)), None)
        }
        None if features.sparse && asked == 0 => {
            let message = "sparse vectors are switched on, but no sparse model runs (spec.models.sparse)".to_owned();
            (Some(by_toggle(FallbackReason::ModelUnavailable)), Some(message))
        }
        None => (None, None),
    };
    SparseRun {
        enabled: features.sparse,
        executed: live > 0,
        fallback,
        fallback_message,
        coverage: (rows > 0).then(|| live as f64 / rows as f64),
        seconds: passes.iter().map(|pass| pass.seconds).sum(),
        passes,
    }
}

/// Fallbacks of the same model and reason as one, in the order in which they are met.
fn merged<'a>(fallbacks: impl Iterator<Item = &'a ModelFallback>) -> Vec<ModelFallback> {
    let mut sums: Vec<ModelFallback> = Vec::new();
    for one in fallbacks {
        match sums.iter_mut().find(|sum| sum.model == one.model && sum.fallback.reason == one.fallback.reason) {
            None => sums.push(one.clone()),
            Some(sum) => sum.fallback.count += one.fallback.count,
        }
    }
    sums
}

fn fusion(commits: &[&Commit]) -> Option<FusionRun> {
    let runs = commits.iter().filter_map(|commit| commit.fusion.as_ref());
    let seconds = runs.clone().map(|run| run.seconds).sum();
    runs.clone().next().map(|run| FusionRun { seconds, ..run.clone() })
}

fn export(config: &RunnerConfig, commits: &[&Commit]) -> ExportRun {
    let file = |commit: &&Commit| ExportedFile {
        path: commit.file.clone(),
        rows: commit.rows,
        bytes: commit.bytes,
        sha256: commit.sha256.clone(),
    };
    ExportRun {
        destination: config.output.uri.clone(),
        files: commits.iter().map(file).collect(),
        total_bytes: commits.iter().map(|commit| commit.bytes).sum(),
    }
}

fn device(commits: &[&Commit], rerank: &RerankRun) -> DeviceRun {
    let fallbacks = || commits.iter().filter_map(|commit| commit.device.fallback).chain(rerank.device_fallback);
    let names = |of: fn(&Commit) -> &str| -> BTreeSet<&str> { commits.iter().map(|commit| of(commit)).collect() };
    DeviceRun {
        // Shards may have been asked for differently: execution fields may change while a revision is at work.
        requested: names(|commit| &commit.device.requested).into_iter().collect::<Vec<_>>().join(", "),
        used: names(|commit| &commit.device.used).into_iter().map(ToOwned::to_owned).collect(),
        fallback_reason: fallbacks().next(),
        fallback_count: fallbacks().count() as u64,
    }
}

/// One record per model, summed over the shards.
fn passes(commits: &[&Commit]) -> Vec<DensePass> {
    let mut sums: Vec<DensePass> = Vec::new();
    for pass in commits.iter().flat_map(|commit| &commit.dense) {
        match sums.iter_mut().find(|sum| sum.model == pass.model) {
            None => sums.push(pass.clone()),
            Some(sum) => {
                sum.chunks += pass.chunks;
                sum.tokens += pass.tokens;
                sum.truncated_chunks += pass.truncated_chunks;
                sum.tokens_lost += pass.tokens_lost;
                sum.batches += pass.batches;
                sum.seconds += pass.seconds;
                sum.peak_bytes = sum.peak_bytes.max(pass.peak_bytes);
                sum.mitigations += pass.mitigations;
                add_lengths(&mut sum.token_lengths, &pass.token_lengths);
                also(&mut sum.dtype, &pass.dtype);
            }
        }
    }
    sums
}

/// Adds a name to a list of names, once: shards may have been computed on a GPU and, as a fallback, on a CPU.
fn also(names: &mut String, name: &str) {
    if !names.split(", ").any(|known| known == name) {
        *names = format!("{names}, {name}");
    }
}

fn add_lengths(sums: &mut Vec<LengthBucket>, buckets: &[LengthBucket]) {
    for bucket in buckets {
        match sums.iter_mut().find(|sum| sum.up_to == bucket.up_to) {
            None => sums.push(*bucket),
            Some(sum) => sum.chunks += bucket.chunks,
        }
    }
    sums.sort_by_key(|sum| sum.up_to);
}

fn telemetry(
    plan: &Plan,
    commits: &[&Commit],
    passes: &[DensePass],
    sparse: &SparseRun,
    fusion: Option<&FusionRun>,
    rerank: &RerankRun,
    export: &ExportRun,
) -> Telemetry {
    let span = |name: &str, count: usize, seconds: f64| SpanSummary { name: name.into(), count: count as u64, seconds };
    let dense_seconds = passes.iter().map(|pass| pass.seconds).sum();
    let export_seconds = commits.iter().map(|commit| commit.export_seconds).sum();
    let retrieve_seconds = commits.iter().map(|commit| commit.retrieve_seconds).sum();
    let sum = |of: fn(&DensePass) -> u64| passes.iter().map(of).sum::<u64>() as f64;
    let count = |of: fn(&Commit) -> usize| commits.iter().map(|commit| of(commit)).sum::<usize>();
    let spans = [
        span(telemetry::PLAN, 1, plan.seconds),
        span(telemetry::DENSE, count(|commit| commit.dense.len()), dense_seconds),
        span(telemetry::SPARSE, count(|commit| commit.sparse.len()), sparse.seconds),
        span(
            telemetry::FUSION,
            count(|commit| usize::from(commit.fusion.is_some())),
            fusion.map_or(0.0, |fusion| fusion.seconds),
        ),
        span(telemetry::RETRIEVE, count(|commit| usize::from(commit.candidates.is_some())), retrieve_seconds),
        span(telemetry::RERANK, usize::from(rerank.executed), rerank.seconds),
        span(telemetry::EXPORT, commits.len(), export_seconds),
    ];
    let leases = || commits.iter().flat_map(|commit| &commit.trace.leases);
    let fallbacks = |fallback: Option<&Fallback>| fallback.map_or(0, |fallback| fallback.count) as f64;
    let mut metrics = BTreeMap::from([
        ("rag_chunks_total".to_owned(), commits.iter().map(|commit| commit.rows).sum::<u64>() as f64),
        ("rag_export_total_bytes".to_owned(), export.total_bytes as f64),
        ("rag_gpu_peak_bytes".to_owned(), leases().map(|lease| lease.bytes_peak).max().unwrap_or(0) as f64),
        ("rag_tokens_total".to_owned(), sum(|pass| pass.tokens)),
        ("rag_truncated_chunks_total".to_owned(), sum(|pass| pass.truncated_chunks)),
        ("rerank_fallback_total".to_owned(), fallbacks(rerank.fallback.as_ref())),
        ("sparse_fallback_total".to_owned(), fallbacks(sparse.fallback.as_ref())),
    ]);
    metrics.extend(sparse.coverage.map(|coverage| ("rag_sparse_coverage_ratio".to_owned(), coverage)));
    Telemetry {
        spans: spans.into_iter().filter(|span| span.count > 0).collect(),
        metrics,
        mitigation_events: commits
            .iter()
            .flat_map(|commit| commit.trace.mitigations.clone())
            .take(MOST_EVENTS)
            .collect(),
        lease_events: leases().take(MOST_EVENTS).cloned().collect(),
        samples: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_differ_between_shards_are_all_named() {
        let mut names = "F16".to_owned();
        for name in ["F16", "F32", "F16", "F32"] {
            also(&mut names, name);
        }
        assert_eq!(names, "F16, F32");
    }
}
