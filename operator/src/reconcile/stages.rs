//! The stages that can fall back: what the status says of them, and whether the run is degraded.

use std::collections::BTreeMap;

use crds::{
    contract::{FinalizeResult, StageFallback, StageResult},
    v1alpha1::{EmbeddingRunSpec, EmbeddingRunStatus, FallbackReason, FallbackSource, StageStatus},
};

/// The stages of a run, as its status has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages {
    /// The ensemble; only where an optional model was left out.
    pub dense: Option<StageStatus>,
    /// Sparse vectors.
    pub sparse: StageStatus,
    /// Rerank.
    pub rerank: StageStatus,
    /// The accelerator.
    pub device: StageStatus,
}

/// Why a complete run did less than was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degradation {
    /// The reason of the first fallback.
    pub reason: FallbackReason,
    /// Every fallback, for people.
    pub message: String,
}

impl Stages {
    /// What a spec asks for, before the revision has ended.
    pub fn asked(spec: &EmbeddingRunSpec) -> Self {
        let toggles = spec.toggles.clone().unwrap_or_default();
        let stage = |given: bool, toggle: Option<bool>| {
            if given && toggle != Some(false) { StageStatus::pending() } else { StageStatus::disabled() }
        };
        Self {
            dense: None,
            sparse: stage(!spec.models.sparse.is_empty(), toggles.sparse),
            rerank: stage(spec.models.reranker.is_some(), toggles.rerank),
            device: stage(spec.gpu.count > 0, None),
        }
    }

    /// What a revision gave.
    pub fn ended(spec: &EmbeddingRunSpec, result: &FinalizeResult) -> Self {
        let told = |stage: Option<&StageResult>| stage.map_or_else(StageStatus::disabled, stage_status);
        Self {
            // The models that are left still embedded.
            dense: result.dense_fallback.map(|fallback| StageStatus { executed: true, ..fell_back(fallback) }),
            sparse: told(result.totals.sparse.as_ref()),
            rerank: told(result.totals.rerank.as_ref()),
            device: match result.device_fallback() {
                Some(reason) => StageStatus::fell_back(reason, FallbackSource::Runtime, result.device_fallbacks),
                None if spec.gpu.count > 0 => StageStatus::executed(),
                None => StageStatus::disabled(),
            },
        }
    }

    /// Puts the stages into a status.
    pub fn write_to(self, status: &mut EmbeddingRunStatus) {
        status.dense = self.dense;
        status.sparse = Some(self.sparse);
        status.rerank = Some(self.rerank);
        status.device = Some(self.device);
    }

    /// Why a run that ended so is degraded; none where every stage did what was asked.
    pub fn degradation(&self, spec: &EmbeddingRunSpec) -> Option<Degradation> {
        let stages = [
            ("dense", self.dense.as_ref(), String::new()),
            ("sparse", Some(&self.sparse), String::new()),
            ("rerank", Some(&self.rerank), String::new()),
            (
                "device",
                Some(&self.device),
                match spec.gpu.count {
                    count @ 2.. => format!(
                        ": computed on the CPU or on fewer devices, spec.gpu asks for {count} × {}",
                        spec.gpu.resource_name
                    ),
                    _ => format!(": computed on the CPU, spec.gpu asks for {}", spec.gpu.resource_name),
                },
            ),
        ];
        let mut reasons = Vec::new();
        let mut clauses = Vec::new();
        for (name, stage, detail) in stages {
            let Some(stage) = stage else { continue };
            let Some(reason) = stage.fallback_reason else { continue };
            let source = stage.fallback_source.map_or_else(String::new, |source| format!(" ({source})"));
            reasons.push(reason);
            clauses.push(format!("{name} {reason}{source} ×{}{detail}", stage.fallback_count));
        }
        let reason = *reasons.first()?;
        Some(Degradation { reason, message: clauses.join("; ") })
    }
}

/// A run that fails leaves no stage pending: nothing of it is to come any more.
pub fn leave_unfinished(status: &mut EmbeddingRunStatus) {
    for stage in [&mut status.dense, &mut status.sparse, &mut status.rerank, &mut status.device].into_iter().flatten() {
        if *stage == StageStatus::pending() {
            *stage = StageStatus::unfinished();
        }
    }
}

/// What the status says of a stage that ended.
pub fn stage_status(stage: &StageResult) -> StageStatus {
    let told = match stage.fallback {
        Some(fallback) => fell_back(fallback),
        None if stage.executed => StageStatus::executed(),
        None => StageStatus::disabled(),
    };
    StageStatus {
        enabled: stage.enabled,
        executed: stage.executed,
        latency_seconds: (stage.executed || stage.millis > 0).then(|| thousandths(stage.millis)),
        coverage: stage.coverage.map(|coverage| thousandths(coverage.into())),
        candidates: stage.candidates,
        ..told
    }
}

/// The metrics of a quality, by name.
pub fn quality(metrics: &[(String, u16)]) -> BTreeMap<String, String> {
    metrics.iter().map(|(metric, value)| (metric.clone(), thousandths((*value).into()))).collect()
}

fn fell_back(fallback: StageFallback) -> StageStatus {
    StageStatus::fell_back(fallback.reason, fallback.source, fallback.count)
}

/// A number of thousandths as a decimal, exactly: the status holds no floats.
fn thousandths(value: u64) -> String {
    format!("{}.{:03}", value / 1000, value % 1000)
}
