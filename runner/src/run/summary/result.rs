//! The result of a run for the operator, from its summaries.

use crds::{
    contract::{CollectionResult, DenseResult, FinalizeResult, RunnerConfig, StageFallback, StageResult},
    summary::{Fallback, Quality},
};

use super::StoredSummary;

/// The result of a complete revision for the operator.
pub fn result(config: &RunnerConfig, run: &StoredSummary, collections: &[StoredSummary]) -> FinalizeResult {
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
        source_changed: None,
    }
}

fn counts(config: &RunnerConfig, stored: &StoredSummary) -> CollectionResult {
    let summary = &stored.summary;
    let passes = &summary.dense_run.passes;
    // One per model of the spec, so that a skipped model keeps its place.
    let dense = config.dense.iter().map(|model| {
        let pass = passes.iter().find(|pass| pass.model == model.name);
        pass.map_or_else(DenseResult::default, |pass| DenseResult {
            dimensions: pass.dimensions,
            tokens: pass.tokens,
            seconds: pass.seconds.round() as u64,
            similarity: pass.similarity,
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
        sparse: has_result(sparse.enabled, sparse.fallback.as_ref()).then(|| StageResult {
            enabled: sparse.enabled,
            executed: sparse.executed,
            fallback: sparse.fallback.as_ref().map(stage_fallback),
            coverage: sparse.coverage.map(thousandths),
            candidates: None,
            millis: millis(sparse.seconds),
        }),
        rerank: has_result(rerank.enabled, rerank.fallback.as_ref()).then(|| StageResult {
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

/// Whether a stage has a result.
fn has_result(enabled: bool, fallback: Option<&Fallback>) -> bool {
    enabled || fallback.is_some()
}

fn stage_fallback(fallback: &Fallback) -> StageFallback {
    StageFallback { reason: fallback.reason, source: fallback.source, count: fallback.count }
}

/// The quality of the last measured list.
fn last_quality(quality: &Quality) -> Vec<(String, u16)> {
    let last = quality.lists.last();
    last.iter().flat_map(|list| &list.metrics).map(|(metric, value)| (metric.clone(), thousandths(*value))).collect()
}

/// A share in thousandths, rounded down: only a share of 1 is 1000.
fn thousandths(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 1000.0 + 1e-9) as u16
}

fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
