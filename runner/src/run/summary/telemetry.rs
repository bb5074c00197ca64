//! The spans, metrics and events of a summary.

use std::collections::BTreeMap;

use crds::summary::{DensePass, ExportRun, Fallback, FusionRun, RerankRun, SpanSummary, SparseRun, Telemetry};

use super::super::commit::Commit;
use crate::{plan::Plan, process::telemetry};

/// The largest number of events of one kind in a summary.
pub(super) const MAX_EVENTS: usize = 500;

/// The telemetry of a summary.
pub(super) fn telemetry(
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
            .take(MAX_EVENTS)
            .collect(),
        lease_events: leases().take(MAX_EVENTS).cloned().collect(),
        samples: Vec::new(),
    }
}
