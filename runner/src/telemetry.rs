//! The spans of a run: real tracing spans, whose times also go into the summary.

use std::time::Instant;

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

/// Does `work` inside `span`; the time is in seconds.
pub fn timed<T>(span: tracing::Span, work: impl FnOnce() -> T) -> (T, f64) {
    let started = Instant::now();
    let done = span.in_scope(work);
    (done, started.elapsed().as_secs_f64())
}
