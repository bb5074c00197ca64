//! The spans of a run: tracing spans, whose times also go into the summary. They are sent to a collector over OTLP if
//! the environment names one.

use std::time::Instant;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing::Subscriber;
use tracing_subscriber::{Layer, filter::FilterFn, registry::LookupSpan};

/// The variables with the endpoint of a collector; the second is for traces only.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
/// The variable with the name of the service.
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";

/// All work of a process for a run.
pub const RUN: &str = "rag.run";

/// Listing and reading the sources.
pub const PLAN: &str = "rag.plan";
/// One dense model over one shard, its loading included.
pub const DENSE: &str = "rag.dense";
/// One sparse model over one shard, its loading included.
pub const SPARSE: &str = "rag.sparse";
/// Fusing the vectors of one shard.
pub const FUSION: &str = "rag.fusion";
/// Finding the candidates of the queries in one shard.
pub const RETRIEVE: &str = "rag.retrieve";
/// Reranking the candidates of one collection.
pub const RERANK: &str = "rag.rerank";
/// Writing the vectors of one shard.
pub const EXPORT: &str = "rag.export";

/// The connection to a collector of spans.
pub struct Collector(SdkTracerProvider);

impl Collector {
    /// The collector that the environment names; `None` without one. The protocol is protobuf over HTTP.
    ///
    /// # Errors
    /// If the endpoint is not a URL.
    pub fn from_environment() -> Result<Option<Self>, String> {
        let is_set = |name: &&&str| std::env::var_os(*name).is_some_and(|value| !value.is_empty());
        let Some(variable) = ENDPOINTS.iter().find(is_set) else { return Ok(None) };
        // An error means that the same provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| format!("invalid endpoint in {variable}: {error}"))?;
        let name = std::env::var(SERVICE_NAME).unwrap_or_else(|_| "embedrun".into());
        let resource = Resource::builder().with_service_name(name).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Self(provider)))
    }

    /// The layer that sends the spans of a run.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> {
        let run_spans = FilterFn::new(|metadata| metadata.is_span() && metadata.name().starts_with("rag."));
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("embedrun")).with_filter(run_spans)
    }

    /// Sends the remaining spans. If the collector does not answer, the run only logs a warning.
    pub fn finish(self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("cannot send the last spans to the collector: {error}");
        }
    }
}

/// Does `work` inside `span`. Returns its output, and the duration in seconds.
pub fn timed<T>(span: tracing::Span, work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let output = span.in_scope(work);
    (output, started.elapsed().as_secs_f64())
}
