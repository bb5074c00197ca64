//! The final figures of finished runs. Batch pods end between two scrapes, so the operator exports their figures.

use std::time::Duration;

use crds::{
    contract::{FinalizeResult, StageFallback, StageResult},
    v1alpha1::{FallbackReason, FallbackSource},
};
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

use super::registration::{counters, registered};

/// The histogram buckets of stage times, from a tenth of a second to a day, in seconds.
const STAGE_BUCKETS: [f64; 12] = [0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0];

/// The final figures of finished runs, summed.
pub(super) struct Results {
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

impl Results {
    /// Registers the metrics.
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
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

    /// Adds the figures of one finished run.
    pub(super) fn add(&self, result: &FinalizeResult) {
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
