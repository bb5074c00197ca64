//! What the shards of a run recorded in their commit markers, as one.

use std::collections::BTreeSet;

use crds::{
    contract::RunnerConfig,
    summary::{
        DensePass, DeviceRun, ExportRun, ExportedFile, Fallback, FusionRun, LengthBucket, ModelFallback, RerankRun,
        SparsePass, SparseRun,
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
                add_name(&mut sum.dtype, &pass.dtype);
            }
        }
    }
    let live: u64 = passes.iter().map(|pass| pass.model_chunks).sum();
    let rows = models * commits.iter().map(|commit| commit.rows).sum::<u64>();
    let first = merge_fallbacks(commits.iter().flat_map(|commit| &commit.sparse_fallbacks)).into_iter().next();
    let by_toggle = |reason| Fallback { reason, source: FallbackSource::Toggle, count: 1 };
    let (fallback, fallback_message) = match first {
        Some(first) => (Some(first.fallback), Some(first.message)),
        None if toggles.switched_off("sparse", features.sparse, !config.sparse.is_empty()) => {
            (Some(by_toggle(FallbackReason::FeatureDisabled)), None)
        }
        None if features.sparse && models == 0 => {
            let message = "the toggle sparse is on, but the run has no sparse model (spec.models.sparse)".to_owned();
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

/// Merges the fallbacks of the same model and reason, in the order of their first occurrence.
pub(super) fn merge_fallbacks<'a>(fallbacks: impl Iterator<Item = &'a ModelFallback>) -> Vec<ModelFallback> {
    let mut sums: Vec<ModelFallback> = Vec::new();
    for one in fallbacks {
        match sums.iter_mut().find(|sum| sum.model == one.model && sum.fallback.reason == one.fallback.reason) {
            None => sums.push(one.clone()),
            Some(sum) => sum.fallback.count += one.fallback.count,
        }
    }
    sums
}

pub(super) fn fusion(commits: &[&Commit]) -> Option<FusionRun> {
    let runs = commits.iter().filter_map(|commit| commit.fusion.as_ref());
    let seconds = runs.clone().map(|run| run.seconds).sum();
    runs.clone().next().map(|run| FusionRun { seconds, ..run.clone() })
}

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
                add_name(&mut sum.dtype, &pass.dtype);
            }
        }
    }
    sums
}

/// Adds a name to a list of names, once: shards may have been computed on a GPU and, as a fallback, on a CPU.
fn add_name(names: &mut String, name: &str) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_differ_between_shards_are_all_named() {
        let mut names = "F16".to_owned();
        for name in ["F16", "F32", "F16", "F32"] {
            add_name(&mut names, name);
        }
        assert_eq!(names, "F16, F32");
    }
}
