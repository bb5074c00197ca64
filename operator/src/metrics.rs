//! The metrics of the operator. Labels are bounded: never the name of an object.
//!
//! Batch pods are gone between two scrapes, so the final figures of every run are counted here.

use std::{collections::BTreeMap, time::Duration};

use crds::{
    contract::FinalizeResult,
    v1alpha1::{EmbeddingRun, FallbackReason, Phase},
};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Every metric of the operator.
pub struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    duration: Histogram,
    runs: IntGaugeVec,
    leader: IntGauge,
    chunks: IntCounter,
    tokens: IntCounter,
    truncated: IntCounter,
    skipped: IntCounter,
    device_fallbacks: IntCounterVec,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            reconciliations: IntCounterVec::new(
                Opts::new("embedrun_reconciliations_total", "Reconciliations by result."),
                &["result"],
            )?,
            duration: Histogram::with_opts(
                HistogramOpts::new("embedrun_reconcile_duration_seconds", "Time of one reconciliation.")
                    .buckets(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            )?,
            runs: IntGaugeVec::new(Opts::new("embedrun_runs", "EmbeddingRuns by phase."), &["phase"])?,
            leader: IntGauge::new("embedrun_leader", "1 while this process holds the lease.")?,
            chunks: IntCounter::new("rag_chunks_total", "Chunks embedded by finished runs.")?,
            tokens: IntCounter::new("rag_tokens_total", "Tokens embedded by finished runs, over all models.")?,
            truncated: IntCounter::new("rag_truncated_chunks_total", "Chunks cut by finished runs.")?,
            skipped: IntCounter::new("rag_skipped_chunks_total", "Chunks without text in finished runs.")?,
            device_fallbacks: IntCounterVec::new(
                Opts::new("device_fallback_total", "Shards computed on another device than asked for."),
                &["reason", "source"],
            )?,
            registry,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.reconciliations.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.runs.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        registry.register(Box::new(metrics.chunks.clone()))?;
        registry.register(Box::new(metrics.tokens.clone()))?;
        registry.register(Box::new(metrics.truncated.clone()))?;
        registry.register(Box::new(metrics.skipped.clone()))?;
        registry.register(Box::new(metrics.device_fallbacks.clone()))?;
        Ok(metrics)
    }

    /// One reconciliation ended; `result` is `ok` or the class of the error.
    pub fn reconciled(&self, result: &str, took: Duration) {
        self.reconciliations.with_label_values(&[result]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// This process has, or has not, the lease.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Counts the runs by phase.
    pub fn set_runs<'a>(&self, runs: impl Iterator<Item = &'a EmbeddingRun>) {
        let mut by_phase: BTreeMap<String, i64> = Phase::ALL.iter().map(|phase| (phase.to_string(), 0)).collect();
        for run in runs {
            let phase = run.status.as_ref().and_then(|status| status.phase).unwrap_or(Phase::Pending);
            *by_phase.entry(phase.to_string()).or_default() += 1;
        }
        for (phase, count) in by_phase {
            self.runs.with_label_values(&[&phase]).set(count);
        }
    }

    /// The final figures of a run.
    pub fn record_result(&self, result: &FinalizeResult) {
        self.chunks.inc_by(result.totals.embedded);
        self.truncated.inc_by(result.totals.truncated);
        self.skipped.inc_by(result.totals.skipped);
        self.tokens.inc_by(result.totals.dense.iter().map(|pass| pass.tokens).sum());
        self.device_fallbacks
            .with_label_values(&[FallbackReason::DeviceFallback.to_string().as_str(), "runtime"])
            .inc_by(result.device_fallbacks);
    }

    /// All metrics in the text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}
