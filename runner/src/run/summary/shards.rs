//! The records of the shards' commit markers, merged into the records of a summary.

use std::collections::BTreeSet;

use crds::{
    contract::RunnerConfig,
    summary::{
        DensePass, DeviceRun, ExportRun, ExportedFile, Fallback, FusionRun, ModelFallback, RerankRun, SparsePass,
        SparseRun,
    },
    v1alpha1::{FallbackReason, FallbackSource},
};

use super::super::commit::Commit;
use crate::config::toggles::Toggles;

/// The sparse stage over the shards.
pub(super) fn sparse(config: &RunnerConfig, toggles: &Toggles, commits: &[&Commit]) -> SparseRun {
    let features = &toggles.features;
    let models = toggles.sparse_models(config).len() as u64;
    let mut passes: Vec<SparsePass> = Vec::new();
    for pass in commits.iter().flat_map(|commit| &commit.sparse) {
        match passes.iter_mut().find(|sum| sum.model == pass.model) {
            None => passes.push(pass.clone()),
            Some(sum) => *sum += pass,
        }
    }
    let model_rows: u64 = passes.iter().map(|pass| pass.model_chunks).sum();
    let rows = models * commits.iter().map(|commit| commit.rows).sum::<u64>();
    let first_fallback = merge_fallbacks(commits.iter().flat_map(|commit| &commit.sparse_fallbacks)).into_iter().next();
    let toggle_fallback = |reason| Fallback { reason, source: FallbackSource::Toggle, count: 1 };
    let (fallback, fallback_message) = match first_fallback {
        Some(ModelFallback { fallback, message, .. }) => (Some(fallback), Some(message)),
        None if toggles.switched_off("sparse", features.sparse, !config.sparse.is_empty()) => {
            (Some(toggle_fallback(FallbackReason::FeatureDisabled)), None)
        }
        None if features.sparse && models == 0 => {
            let message = "the toggle sparse is on, but the run has no sparse model (spec.models.sparse)".to_owned();
            (Some(toggle_fallback(FallbackReason::ModelUnavailable)), Some(message))
        }
        None => (None, None),
    };
    SparseRun {
        enabled: features.sparse,
        executed: model_rows > 0,
        fallback,
        fallback_message,
        coverage: (rows > 0).then(|| model_rows as f64 / rows as f64),
        seconds: passes.iter().map(|pass| pass.seconds).sum(),
        passes,
    }
}

/// Merges the fallbacks of the same model and reason, in the order of their first occurrence.
pub(super) fn merge_fallbacks<'a>(fallbacks: impl Iterator<Item = &'a ModelFallback>) -> Vec<ModelFallback> {
    let mut sums: Vec<ModelFallback> = Vec::new();
    for next in fallbacks {
        match sums.iter_mut().find(|sum| sum.model == next.model && sum.fallback.reason == next.fallback.reason) {
            None => sums.push(next.clone()),
            Some(sum) => sum.fallback.count += next.fallback.count,
        }
    }
    sums
}

/// The fusion of the first shard, with the time summed over the shards; `None` if nothing was fused.
pub(super) fn fusion(commits: &[&Commit]) -> Option<FusionRun> {
    let runs = commits.iter().filter_map(|commit| commit.fusion.as_ref());
    let seconds = runs.clone().map(|run| run.seconds).sum();
    runs.clone().next().map(|run| FusionRun { seconds, ..run.clone() })
}

/// The committed files, in the order of the plan.
pub(super) fn export(config: &RunnerConfig, commits: &[&Commit]) -> ExportRun {
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

/// The devices of all shards; fallbacks are counted over shards and reranks.
pub(super) fn device(commits: &[&Commit], rerank: &RerankRun) -> DeviceRun {
    let fallbacks = || commits.iter().filter_map(|commit| commit.device.fallback).chain(rerank.device_fallback);
    let names = |of: fn(&Commit) -> &str| -> BTreeSet<&str> { commits.iter().map(|commit| of(commit)).collect() };
    DeviceRun {
        // Execution fields may change while a revision is embedded, so shards may have requested different devices.
        requested: names(|commit| &commit.device.requested).into_iter().collect::<Vec<_>>().join(", "),
        used: names(|commit| &commit.device.used).into_iter().map(ToOwned::to_owned).collect(),
        fallback_reason: fallbacks().next(),
        fallback_count: fallbacks().count() as u64,
    }
}

/// One record per dense model, summed over the shards.
pub(super) fn dense(commits: &[&Commit]) -> Vec<DensePass> {
    let mut sums: Vec<DensePass> = Vec::new();
    for pass in commits.iter().flat_map(|commit| &commit.dense) {
        match sums.iter_mut().find(|sum| sum.model == pass.model) {
            None => sums.push(pass.clone()),
            Some(sum) => *sum += pass,
        }
    }
    sums
}
