//! The stages that can fall back: their status, and whether the run is degraded.

use std::collections::BTreeMap;

use crds::{
    contract::{FinalizeResult, StageFallback, StageResult},
    v1alpha1::{EmbeddingRunSpec, EmbeddingRunStatus, FallbackReason, FallbackSource, GpuSpec, StageStatus},
};

/// The status of every stage that can fall back.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages {
    /// The dense stage; only if an optional model was left out.
    pub dense: Option<StageStatus>,
    /// The sparse stage.
    pub sparse: StageStatus,
    /// The rerank stage.
    pub rerank: StageStatus,
    /// The accelerators.
    pub device: StageStatus,
}

/// Why a complete run is degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Degradation {
    /// The reason of the first fallback.
    pub reason: FallbackReason,
    /// All fallbacks, for people.
    pub message: String,
}

impl Stages {
    /// The stages that a spec requests, before the revision has ended.
    pub fn requested(spec: &EmbeddingRunSpec) -> Self {
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

    /// The stages of a complete revision.
    pub fn completed(spec: &EmbeddingRunSpec, result: &FinalizeResult) -> Self {
        let status_of = |stage: Option<&StageResult>| stage.map_or_else(StageStatus::disabled, stage_status);
        Self {
            // The other models embedded all chunks.
            dense: result.dense_fallback.map(|fallback| StageStatus { executed: true, ..fell_back(fallback) }),
            sparse: status_of(result.totals.sparse.as_ref()),
            rerank: status_of(result.totals.rerank.as_ref()),
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

    /// Why a complete run with these stages is degraded; `None` if every stage did its full work.
    pub fn degradation(&self, spec: &EmbeddingRunSpec) -> Option<Degradation> {
        let stages = [
            ("dense", self.dense.as_ref()),
            ("sparse", Some(&self.sparse)),
            ("rerank", Some(&self.rerank)),
            ("device", Some(&self.device)),
        ];
        let fallbacks: Vec<(&str, StageFallback)> =
            stages.into_iter().filter_map(|(name, stage)| Some((name, fallback(stage?)?))).collect();
        let (_, first) = fallbacks.first()?;
        let clause = |(name, fallback): &(&str, StageFallback)| match *name {
            "device" => format!("device degraded: {fallback}, {}", device_detail(&spec.gpu)),
            name => format!("{name} degraded: {fallback}"),
        };
        let message = fallbacks.iter().map(clause).collect::<Vec<_>>().join("; ");
        Some(Degradation { reason: first.reason, message })
    }
}

/// The fallback of a stage; `None` if it did not fall back.
fn fallback(stage: &StageStatus) -> Option<StageFallback> {
    Some(StageFallback { reason: stage.fallback_reason?, source: stage.fallback_source?, count: stage.fallback_count })
}

/// Where a run with a device fallback was computed, and what it requested.
fn device_detail(gpu: &GpuSpec) -> String {
    let GpuSpec { count, resource_name, .. } = gpu;
    match count {
        2.. => format!("computed on the CPU or on fewer devices (spec.gpu requests {count} × {resource_name})"),
        _ => format!("computed on the CPU (spec.gpu requests {resource_name})"),
    }
}

/// Marks the pending stages of a failed run as unfinished: they will not run any more.
pub fn mark_unfinished(status: &mut EmbeddingRunStatus) {
    for stage in [&mut status.dense, &mut status.sparse, &mut status.rerank, &mut status.device].into_iter().flatten() {
        if *stage == StageStatus::pending() {
            *stage = StageStatus::unfinished();
        }
    }
}

/// The status of a stage that ended.
pub fn stage_status(stage: &StageResult) -> StageStatus {
    let status = match stage.fallback {
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
        ..status
    }
}

/// The retrieval quality by metric.
pub fn quality(metrics: &[(String, u16)]) -> BTreeMap<String, String> {
    metrics.iter().map(|(metric, value)| (metric.clone(), thousandths((*value).into()))).collect()
}

fn fell_back(fallback: StageFallback) -> StageStatus {
    StageStatus::fell_back(fallback.reason, fallback.source, fallback.count)
}

/// A number of thousandths as an exact decimal: the status contains no floats.
fn thousandths(value: u64) -> String {
    format!("{}.{:03}", value / 1000, value % 1000)
}
