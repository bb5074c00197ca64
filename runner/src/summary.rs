//! From the plan and the commit markers to the summaries, and from the summaries to the result. No input or output.

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    contract::{CollectionResult, DenseResult, FinalizeResult, RunnerConfig},
    summary::{
        CollectionPointer, DensePass, DenseRun, DeviceRun, ExportRun, ExportedFile, ProcessingSummary, RunInfo,
        SCHEMA_VERSION, SpanSummary, StageRun, Telemetry,
    },
};

use crate::{
    plan::{Plan, PlannedCollection, some_of},
    stage::{Commit, Stored},
    telemetry, toggles,
};

/// The summary of a collection.
pub fn of_collection(
    config: &RunnerConfig,
    plan: &Plan,
    planned: &PlannedCollection,
    commits: &[&Commit],
) -> ProcessingSummary {
    ProcessingSummary {
        collection: Some(planned.name.clone()),
        skipped_chunks: planned.skipped,
        warnings: warnings(planned).into_iter().collect(),
        ..common(config, plan, commits)
    }
}

/// The summary of a run; `collections` are the summaries of its collections.
pub fn of_run(config: &RunnerConfig, plan: &Plan, commits: &[&Commit], collections: &[Stored]) -> ProcessingSummary {
    let pointer = |(planned, stored): (&PlannedCollection, &Stored)| CollectionPointer {
        name: planned.name.clone(),
        chunk_count: stored.summary.chunk_count,
        summary: config.collection_summary_uri(&planned.name),
        sha256: stored.sha256.clone(),
    };
    ProcessingSummary {
        collections: plan.collections.iter().zip(collections).map(pointer).collect(),
        skipped_chunks: plan.collections.iter().map(|planned| planned.skipped).sum(),
        warnings: plan.collections.iter().filter_map(warnings).collect(),
        ..common(config, plan, commits)
    }
}

/// What the operator learns of a complete revision.
pub fn result(run: &Stored, collections: &[Stored]) -> FinalizeResult {
    let collections: Vec<CollectionResult> = collections.iter().map(counts).collect();
    let sum = |of: fn(&CollectionResult) -> u64| collections.iter().map(of).sum();
    FinalizeResult {
        summary_sha256: run.sha256.clone(),
        totals: CollectionResult {
            chunks: sum(|collection| collection.chunks),
            embedded: sum(|collection| collection.embedded),
            truncated: sum(|collection| collection.truncated),
            skipped: sum(|collection| collection.skipped),
            dense: counts(run).dense,
            ..CollectionResult::default()
        },
        device_fallbacks: run.summary.device_run.fallback_count,
        collections,
        omitted: 0,
    }
}

fn counts(stored: &Stored) -> CollectionResult {
    let passes = &stored.summary.dense_run.passes;
    let dense = passes.iter().map(|pass| DenseResult {
        dimensions: pass.dimensions,
        tokens: pass.tokens,
        seconds: pass.seconds.round() as u64,
    });
    CollectionResult {
        chunks: stored.summary.chunk_count,
        embedded: stored.summary.chunk_count,
        truncated: passes.iter().map(|pass| pass.truncated_chunks).max().unwrap_or(0),
        skipped: stored.summary.skipped_chunks,
        summary_sha256: stored.sha256.clone(),
        dense: dense.collect(),
    }
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

fn common(config: &RunnerConfig, plan: &Plan, commits: &[&Commit]) -> ProcessingSummary {
    let passes = passes(commits);
    let export_run = export(config, commits);
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
        feature_toggles: toggles::resolve(&config.toggles),
        device_run: device(commits),
        sparse_run: StageRun::disabled(),
        rerank_run: StageRun::disabled(),
        telemetry: telemetry(plan, commits, &passes, export_run.total_bytes),
        dense_run: DenseRun { passes },
        export_run,
        warnings: Vec::new(),
    }
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

fn device(commits: &[&Commit]) -> DeviceRun {
    let names = |of: fn(&Commit) -> &str| -> BTreeSet<&str> { commits.iter().map(|commit| of(commit)).collect() };
    DeviceRun {
        // Shards may have been asked for differently: execution fields may change while a revision is at work.
        requested: names(|commit| &commit.device.requested).into_iter().collect::<Vec<_>>().join(", "),
        used: names(|commit| &commit.device.used).into_iter().map(ToOwned::to_owned).collect(),
        fallback_reason: commits.iter().find_map(|commit| commit.device.fallback),
        fallback_count: commits.iter().filter(|commit| commit.device.fallback.is_some()).count() as u64,
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
            }
        }
    }
    sums
}

fn telemetry(plan: &Plan, commits: &[&Commit], passes: &[DensePass], bytes: u64) -> Telemetry {
    let span = |name: &str, count: usize, seconds: f64| SpanSummary { name: name.into(), count: count as u64, seconds };
    let dense_seconds = passes.iter().map(|pass| pass.seconds).sum();
    let export_seconds = commits.iter().map(|commit| commit.export_seconds).sum();
    let sum = |of: fn(&DensePass) -> u64| passes.iter().map(of).sum::<u64>() as f64;
    Telemetry {
        spans: vec![
            span(telemetry::PLAN, 1, plan.seconds),
            span(telemetry::DENSE, commits.iter().map(|commit| commit.dense.len()).sum(), dense_seconds),
            span(telemetry::EXPORT, commits.len(), export_seconds),
        ],
        metrics: BTreeMap::from([
            ("rag_chunks_total".into(), commits.iter().map(|commit| commit.rows).sum::<u64>() as f64),
            ("rag_export_total_bytes".into(), bytes as f64),
            ("rag_tokens_total".into(), sum(|pass| pass.tokens)),
            ("rag_truncated_chunks_total".into(), sum(|pass| pass.truncated_chunks)),
        ]),
        mitigation_events: Vec::new(),
        lease_events: Vec::new(),
    }
}
