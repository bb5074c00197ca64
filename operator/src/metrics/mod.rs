//! The metrics of the operator: its own work, and the final figures of finished runs.
//!
//! Labels are bounded: never the name of an object.

mod registration;
mod results;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crds::{
    contract::FinalizeResult,
    v1alpha1::{EmbeddingRun, Phase},
};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use self::{
    registration::{counters, registered},
    results::Results,
};

/// Every metric of the operator.
pub struct Metrics {
    registry: Registry,
    reconciliations: IntCounterVec,
    duration: Histogram,
    runs: IntGaugeVec,
    leader: IntGauge,
    results: Results,
    /// The last revision whose figures were counted, by the uid of the run.
    counted_revisions: Mutex<HashMap<String, String>>,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let duration =
            HistogramOpts::new("embedrun_reconcile_duration_seconds", "Time of one reconciliation, in seconds.")
                .buckets(vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
        let runs = Opts::new("embedrun_runs", "EmbeddingRuns by phase.");
        Ok(Self {
            reconciliations: counters(
                &registry,
                "embedrun_reconciliations_total",
                "Reconciliations by result: ok or the class of the error.",
                &["result"],
            )?,
            duration: registered(&registry, Histogram::with_opts(duration)?)?,
            runs: registered(&registry, IntGaugeVec::new(runs, &["phase"])?)?,
            leader: registered(
                &registry,
                IntGauge::new("embedrun_leader", "1 while this process holds the leader lease, else 0.")?,
            )?,
            results: Results::new(&registry)?,
            counted_revisions: Mutex::default(),
            registry,
        })
    }

    /// Counts a reconciliation; `result` is `ok` or the class of the error.
    pub fn record_reconciliation(&self, result: &str, duration: Duration) {
        self.reconciliations.with_label_values(&[result]).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// Sets whether this process holds the lease.
    pub fn set_leader(&self, is_leader: bool) {
        self.leader.set(i64::from(is_leader));
    }

    /// Sets the number of runs by phase; `runs` are all existing runs.
    pub fn set_runs<'a>(&self, runs: impl Iterator<Item = &'a EmbeddingRun>) {
        let mut by_phase: BTreeMap<String, i64> = Phase::ALL.iter().map(|phase| (phase.to_string(), 0)).collect();
        let mut existing = HashSet::new();
        for run in runs {
            let phase = run.status.as_ref().and_then(|status| status.phase).unwrap_or(Phase::Pending);
            *by_phase.entry(phase.to_string()).or_default() += 1;
            existing.extend(run.metadata.uid.as_deref());
        }
        for (phase, count) in by_phase {
            self.runs.with_label_values(&[&phase]).set(count);
        }
        self.counted_revisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|uid, _| existing.contains(uid.as_str()));
    }

    /// Counts the final figures of a revision once. A reconciliation that reads the run from before the status was
    /// written reports the same revision again.
    pub fn record_result(&self, uid: &str, revision: &str, result: &FinalizeResult) {
        let mut counted = self.counted_revisions.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.insert(uid.to_owned(), revision.to_owned()).as_deref() != Some(revision) {
            self.results.add(result);
        }
    }

    /// All metrics in the text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut buffer = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use crds::{
        contract::{CollectionResult, DenseResult, StageFallback, StageResult},
        v1alpha1::{FallbackReason, FallbackSource},
    };

    use super::*;

    fn result() -> FinalizeResult {
        let fallback = |reason, source, count| Some(StageFallback { reason, source, count });
        let sparse = StageResult {
            enabled: true,
            executed: true,
            fallback: fallback(FallbackReason::OutOfMemory, FallbackSource::Runtime, 2),
            coverage: Some(975),
            millis: 2500,
            ..StageResult::default()
        };
        let rerank = StageResult {
            enabled: true,
            fallback: fallback(FallbackReason::ModelUnavailable, FallbackSource::Load, 1),
            ..StageResult::default()
        };
        FinalizeResult {
            totals: CollectionResult {
                embedded: 25,
                truncated: 3,
                dense: vec![DenseResult { dimensions: 384, tokens: 900, seconds: 3, ..DenseResult::default() }; 2],
                sparse: Some(sparse),
                rerank: Some(rerank),
                ..CollectionResult::default()
            },
            ..FinalizeResult::default()
        }
    }

    fn assert_has(metrics: &Metrics, lines: &[&str]) {
        let text = metrics.render().expect("text");
        for line in lines {
            assert!(text.lines().any(|found| found == *line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn the_final_figures_of_a_run_are_exported_with_bounded_labels() {
        let metrics = Metrics::new().expect("metrics");
        metrics.record_result("uid-1", "r1", &result());
        assert_has(
            &metrics,
            &[
                "rag_chunks_total 25",
                "rag_truncated_chunks_total 3",
                "rag_tokens_total 1800",
                r#"sparse_fallback_total{reason="OutOfMemory",source="runtime"} 2"#,
                r#"rerank_fallback_total{reason="ModelUnavailable",source="load"} 1"#,
                r#"device_fallback_total{reason="DeviceFallback",source="runtime"} 0"#,
                "rag_sparse_coverage_ratio 0.975",
                r#"rag_dense_latency_seconds_sum{stage="dense"} 6"#,
                r#"rag_sparse_latency_seconds_sum{stage="sparse"} 2.5"#,
                r#"rag_sparse_latency_seconds_count{stage="sparse"} 1"#,
            ],
        );
        let text = metrics.render().expect("text");
        assert!(!text.contains("rag_rerank_latency_seconds_count{"), "a stage that did not run took no time: {text}");
    }

    #[test]
    fn a_run_without_sparse_vectors_has_no_coverage() {
        let metrics = Metrics::new().expect("metrics");
        metrics.record_result("uid-1", "r1", &FinalizeResult::default());
        assert!(!metrics.render().expect("text").contains("rag_sparse_coverage_ratio"));
    }

    #[test]
    fn a_revision_is_counted_once_and_the_next_one_again() {
        let metrics = Metrics::new().expect("metrics");
        metrics.record_result("uid-1", "r1", &result());
        metrics.record_result("uid-1", "r1", &result());
        assert_has(&metrics, &["rag_chunks_total 25"]);
        metrics.record_result("uid-1", "r2", &result());
        metrics.record_result("uid-2", "r1", &result());
        assert_has(&metrics, &["rag_chunks_total 75", r#"rag_sparse_latency_seconds_count{stage="sparse"} 3"#]);
    }

    #[test]
    fn a_deleted_run_is_forgotten() {
        let metrics = Metrics::new().expect("metrics");
        metrics.record_result("uid-1", "r1", &result());
        metrics.set_runs([].into_iter());
        assert!(metrics.counted_revisions.lock().expect("the counted revisions").is_empty());
    }
}
