//! The metrics of the process for Prometheus, served at `/metrics` while it runs.
//!
//! Labels are bounded: stages, reasons, sources, devices, and the models of the run. The final figures of a run are
//! also in its summary, and the operator exports them after the pod has ended.

use std::{net::SocketAddr, sync::LazyLock};

use axum::{Router, http::header, response::IntoResponse, routing::get};
use crds::{
    contract::FailureReason,
    v1alpha1::{FallbackReason, FallbackSource},
};
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

use super::{
    error::{Result, StageError},
    runtime::runtime,
};

/// The buckets of a batch's duration in seconds: from a few short texts on a GPU to a batch of a large model on a CPU.
const BATCH_SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// The buckets of the duration of writing a shard's file, in seconds.
const EXPORT_SECONDS: [f64; 9] = [0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// The metrics of the process.
pub static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// All metrics; see their help texts.
pub struct Metrics {
    registry: Registry,
    dense: HistogramVec,
    sparse: HistogramVec,
    rerank: HistogramVec,
    export: HistogramVec,
    peak: GaugeVec,
    coverage: Gauge,
    export_bytes: IntCounter,
    rerank_fallback: IntCounterVec,
    sparse_fallback: IntCounterVec,
    dense_fallback: IntCounterVec,
    device_fallback: IntCounterVec,
    mitigations: IntCounterVec,
    tokens: IntCounterVec,
    chunks: IntCounterVec,
    truncated: IntCounterVec,
}

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(&registry, HistogramVec::new(options, &["stage", "model", "device"]))
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let fallback = |name: &str, help: &str| {
            let counter = counter(name, help, &["reason", "source"]);
            // Every label exists from the start, so that an absent counter is not mistaken for zero.
            for reason in FallbackReason::ALL {
                for source in FallbackSource::ALL {
                    counter.with_label_values(&[&reason.to_string(), &source.to_string()]);
                }
            }
            counter
        };
        let model_labels = ["stage", "model"];
        Self {
            dense: histogram("rag_dense_latency_seconds", "Time of a batch of a dense model.", &BATCH_SECONDS),
            sparse: histogram("rag_sparse_latency_seconds", "Time of a batch of a sparse model.", &BATCH_SECONDS),
            rerank: histogram("rag_rerank_latency_seconds", "Time of a batch of the reranker.", &BATCH_SECONDS),
            export: histogram("rag_export_latency_seconds", "Time of writing the file of a shard.", &EXPORT_SECONDS),
            peak: register(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "rag_gpu_peak_bytes",
                        "Peak memory in use, in bytes: of the device, or on a CPU of the process.",
                    ),
                    &["device"],
                ),
            ),
            coverage: register(
                &registry,
                Gauge::new(
                    "rag_sparse_coverage_ratio",
                    "Share of the last shard's rows whose sparse vector a model computed.",
                ),
            ),
            export_bytes: register(&registry, IntCounter::new("rag_export_total_bytes", "Bytes of the written files.")),
            rerank_fallback: fallback("rerank_fallback_total", "Collections whose rerank stage fell back."),
            sparse_fallback: fallback("sparse_fallback_total", "Chunks whose sparse vector the model did not compute."),
            dense_fallback: fallback(
                "dense_fallback_total",
                "Shards without the vectors of an optional dense model that failed.",
            ),
            device_fallback: fallback(
                "device_fallback_total",
                "Shards that were computed on another device than requested, or on fewer devices.",
            ),
            mitigations: counter("rag_mitigations_total", "Mitigations of memory pressure.", &["stage", "kind"]),
            tokens: counter("rag_tokens_total", "Tokens computed, special tokens included.", &model_labels),
            chunks: counter("rag_chunks_total", "Finished chunks, or pairs of a reranker.", &model_labels),
            truncated: counter(
                "rag_truncated_chunks_total",
                "Chunks that were longer than the longest sequence of the model and were truncated.",
                &model_labels,
            ),
            registry,
        }
    }

    /// Records a finished batch of a stage: its duration in seconds, its tokens and its items.
    pub fn batch(&self, stage: &str, model: &str, device: &str, seconds: f64, tokens: u64, items: u64) {
        let histogram = match stage {
            "dense" => &self.dense,
            "sparse" => &self.sparse,
            _ => &self.rerank,
        };
        histogram.with_label_values(&[stage, model, device]).observe(seconds);
        self.tokens.with_label_values(&[stage, model]).inc_by(tokens);
        self.chunks.with_label_values(&[stage, model]).inc_by(items);
    }

    /// Records the number of chunks that a pass truncated.
    pub fn truncated(&self, stage: &str, model: &str, chunks: u64) {
        self.truncated.with_label_values(&[stage, model]).inc_by(chunks);
    }

    /// Records the memory in use of a device, in bytes; the gauge keeps the largest.
    pub fn peak(&self, device: &str, bytes: u64) {
        let peak = self.peak.with_label_values(&[device]);
        peak.set(peak.get().max(bytes as f64));
    }

    /// Records a mitigation of memory pressure.
    pub fn mitigation(&self, stage: &str, kind: &str) {
        self.mitigations.with_label_values(&[stage, kind]).inc();
    }

    /// Records a written file of a shard: the duration in seconds, and the size in bytes.
    pub fn export(&self, device: &str, seconds: f64, bytes: u64) {
        self.export.with_label_values(&["export", "", device]).observe(seconds);
        self.export_bytes.inc_by(bytes);
    }

    /// Records the share of a shard's rows whose sparse vector a model computed, 0 to 1.
    pub fn coverage(&self, share: f64) {
        self.coverage.set(share);
    }

    /// Records fallbacks of a stage: `dense`, `sparse`, `rerank` or `device`.
    pub fn fallback(&self, stage: &str, reason: FallbackReason, source: FallbackSource, count: u64) {
        let counter = match stage {
            "dense" => &self.dense_fallback,
            "sparse" => &self.sparse_fallback,
            "rerank" => &self.rerank_fallback,
            _ => &self.device_fallback,
        };
        counter.with_label_values(&[&reason.to_string(), &source.to_string()]).inc_by(count);
    }

    fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect("the names and labels of the metrics are valid");
    registry.register(Box::new(metric.clone())).expect("every metric has a name of its own");
    metric
}

/// Serves `/metrics` until the process ends.
///
/// # Errors
/// If the address is in use or not allowed.
pub fn serve(address: SocketAddr) -> Result<()> {
    let runtime = runtime();
    let listener = runtime.block_on(tokio::net::TcpListener::bind(address)).map_err(|error| {
        let message = format!("cannot serve metrics on {address} (--metrics-listen)");
        StageError::new(FailureReason::InvalidConfiguration, message).caused_by(error)
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving /metrics");
    }
    let render = || async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], METRICS.render()).into_response() };
    let app = Router::new().route("/metrics", get(render));
    runtime.spawn(async move {
        if let Err(error) = axum::serve(listener, app).await {
            tracing::warn!("stopped serving /metrics: {error}");
        }
    });
    Ok(())
}
