//! The metrics of the operator. Labels are bounded: never the name of an object.
//!
//! Batch pods end between two scrapes, so the operator exports the final figures of every run.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crds::{
    contract::{FinalizeResult, StageFallback, StageResult},
    v1alpha1::{EmbeddingRun, FallbackReason, FallbackSource, Phase},
};
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

/// The histogram buckets of stage times, from a tenth of a second to a day, in seconds.
const STAGE_BUCKETS: [f64; 12] = [0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

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

/// The final figures of finished runs, summed.
struct Results {
    chunks: IntCounter,
    tokens: IntCounter,
    truncated: IntCounter,
    skipped: IntCounter,
    dense_fallbacks: IntCounterVec,
    sparse_fallbacks: IntCounterVec,
    rerank_fallbacks: IntCounterVec,
    device_fallbacks: IntCounterVec,
    sparse_coverage: GaugeVec,
    dense_latency: HistogramVec,
    sparse_latency: HistogramVec,
    rerank_latency: HistogramVec,
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

impl Results {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| registered(registry, IntCounter::new(name, help)?);
        let fallbacks = |name: &str, help: &str| counters(registry, name, help, &["reason", "source"]);
        let latency = |name: &str, help: &str| {
            let options = HistogramOpts::new(name, help).buckets(STAGE_BUCKETS.to_vec());
            registered(registry, HistogramVec::new(options, &["stage"])?)
        };
        let coverage = Opts::new(
            "rag_sparse_coverage_ratio",
            "The share of rows whose sparse vector the model computed, in the run that finished last.",
        );
        Ok(Self {
            chunks: counter("rag_chunks_total", "Chunks embedded by finished runs.")?,
            tokens: counter("rag_tokens_total", "Tokens embedded by finished runs, over all dense models.")?,
            truncated: counter("rag_truncated_chunks_total", "Chunks truncated by finished runs.")?,
            skipped: counter("rag_skipped_chunks_total", "Chunks without text in finished runs.")?,
            dense_fallbacks: fallbacks(
                "dense_fallback_total",
                "Fallbacks of the dense stage: shards without an optional model.",
            )?,
            sparse_fallbacks: fallbacks("sparse_fallback_total", "Fallbacks of the sparse stage of finished runs.")?,
            rerank_fallbacks: fallbacks("rerank_fallback_total", "Fallbacks of the rerank stage of finished runs.")?,
            device_fallbacks: fallbacks(
                "device_fallback_total",
                "Shards and reranks that did not run on all requested devices.",
            )?,
            // A vector without labels, so that it is absent before the first sparse stage: a zero would raise an alarm.
            sparse_coverage: registered(registry, GaugeVec::new(coverage, &[])?)?,
            dense_latency: latency(
                "rag_dense_latency_seconds",
                "Time of the dense passes of a finished run, in seconds.",
            )?,
            sparse_latency: latency(
                "rag_sparse_latency_seconds",
                "Time of the sparse passes of a finished run, in seconds.",
            )?,
            rerank_latency: latency(
                "rag_rerank_latency_seconds",
                "Time of the rerank stage of a finished run, in seconds.",
            )?,
        })
    }

    fn add(&self, result: &FinalizeResult) {
        let totals = &result.totals;
        self.chunks.inc_by(totals.embedded);
        self.truncated.inc_by(totals.truncated);
        self.skipped.inc_by(totals.skipped);
        self.tokens.inc_by(totals.dense.iter().map(|pass| pass.tokens).sum());
        let seconds: u64 = totals.dense.iter().map(|pass| pass.seconds).sum();
        self.dense_latency.with_label_values(&["dense"]).observe(seconds as f64);
        add_fallback(&self.dense_fallbacks, result.dense_fallback);
        if let Some(sparse) = &totals.sparse {
            add_stage(&self.sparse_latency, "sparse", sparse);
            add_fallback(&self.sparse_fallbacks, sparse.fallback);
            if let Some(coverage) = sparse.coverage {
                self.sparse_coverage.with_label_values::<&str>(&[]).set(f64::from(coverage) / 1000.0);
            }
        }
        if let Some(rerank) = &totals.rerank {
            add_stage(&self.rerank_latency, "rerank", rerank);
            add_fallback(&self.rerank_fallbacks, rerank.fallback);
        }
        let device = StageFallback {
            reason: FallbackReason::DeviceFallback,
            source: FallbackSource::Runtime,
            count: result.device_fallbacks,
        };
        add_fallback(&self.device_fallbacks, Some(device));
    }
}

/// Counts the time of a stage that was executed.
fn add_stage(latency: &HistogramVec, name: &str, stage: &StageResult) {
    if stage.executed {
        latency.with_label_values(&[name]).observe(Duration::from_millis(stage.millis).as_secs_f64());
    }
}

fn add_fallback(counters: &IntCounterVec, fallback: Option<StageFallback>) {
    if let Some(StageFallback { reason, source, count }) = fallback {
        counters.with_label_values(&[reason.to_string(), source.to_string()]).inc_by(count);
    }
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use crds::contract::{CollectionResult, DenseResult};

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
                dense: vec![DenseResult { dimensions: 384, tokens: 900, seconds: 3 }; 2],
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
