//! The dense and sparse passes, and the models of all stages.

use crds::summary::{ProcessingSummary, SparseRun};

use crate::{
    format::{bytes, count, digest, rate, seconds},
    table::Table,
};

/// One row per dense model.
pub fn dense(summary: &ProcessingSummary) -> Table {
    let titles =
        ["model", "#dim", "vectors", "#chunks", "#tokens", "#tokens/s", "#truncated", "#tokens lost", "#time", "#peak"];
    Table::new(titles).of(summary.dense_run.passes.iter().map(|pass| {
        vec![
            pass.model.clone(),
            count(pass.dimensions.into()),
            pass.precision.clone(),
            count(pass.chunks),
            count(pass.tokens),
            rate(pass.tokens, pass.seconds),
            count(pass.truncated_chunks),
            count(pass.tokens_lost),
            seconds(pass.seconds),
            peak(pass.peak_bytes),
        ]
    }))
}

/// One row per model: its settings, source and weights.
pub fn models(summary: &ProcessingSummary) -> Table {
    let dense = summary.dense_run.passes.iter().map(|pass| {
        let prompt = |side: &str, prompt: Option<&String>| {
            prompt.map(|prompt| format!(", {side} prompt {prompt:?}")).unwrap_or_default()
        };
        let tokenizer = match digest(&pass.tokenizer_sha256) {
            digest if digest.is_empty() => digest,
            digest => format!(", tokenizer {digest}"),
        };
        let quantization = pass.quantization.as_ref().map(|scheme| format!(", {} vectors: {scheme}", pass.precision));
        let settings = format!(
            "{} pooling, {} similarity, up to {} tokens, {}{}{}{}{tokenizer}",
            pass.pooling,
            pass.similarity,
            count(pass.max_tokens.into()),
            pass.dtype,
            quantization.unwrap_or_default(),
            prompt("document", pass.document_prompt.as_ref()),
            prompt("query", pass.query_prompt.as_ref())
        );
        vec![pass.model.clone(), settings, pass.source.clone(), digests(&pass.model_sha256, &pass.weights_sha256)]
    });
    let sparse = summary.sparse_run.passes.iter().map(|pass| {
        let kept = pass.top_k.map_or_else(|| "all".into(), |top_k| format!("top {}", count(top_k.into())));
        let vocabulary = count(pass.vocabulary.into());
        let settings = format!("{kept} of {vocabulary} terms, threshold {}, {}", pass.threshold, pass.dtype);
        vec![pass.model.clone(), settings, pass.source.clone(), digests(&pass.model_sha256, &pass.weights_sha256)]
    });
    let rerank = summary.rerank_run.model.iter().map(|model| {
        let settings = format!("cross-encoder, {}", model.dtype);
        vec![model.model.clone(), settings, model.source.clone(), digests(&model.model_sha256, &model.weights_sha256)]
    });
    Table::new(["model", "settings", "source", "sha256"]).of(dense.chain(sparse).chain(rerank))
}

/// The digests of a model's files and of its weights alone; earlier releases recorded the latter only.
fn digests(files: &str, weights: &str) -> String {
    let named =
        [("files", digest(files)), ("weights", digest(weights))].into_iter().filter(|(_, digest)| !digest.is_empty());
    named.map(|(of, digest)| format!("{of} {digest}")).collect::<Vec<_>>().join(", ")
}

/// One row per sparse model.
pub fn sparse(run: &SparseRun) -> Table {
    let titles = [
        "model",
        "#chunks",
        "#from model",
        "#from metadata",
        "#terms/chunk",
        "#tokens/s",
        "#truncated",
        "#time",
        "#peak",
    ];
    Table::new(titles).of(run.passes.iter().map(|pass| {
        let per_chunk = if pass.chunks > 0 { pass.entries as f64 / pass.chunks as f64 } else { 0.0 };
        vec![
            pass.model.clone(),
            count(pass.chunks),
            count(pass.model_chunks),
            count(pass.metadata_chunks),
            format!("{per_chunk:.1}"),
            rate(pass.tokens, pass.seconds),
            count(pass.truncated_chunks),
            seconds(pass.seconds),
            peak(pass.peak_bytes),
        ]
    }))
}

/// Tokens per second over all dense passes.
pub fn tokens_per_second(summary: &ProcessingSummary) -> String {
    let passes = &summary.dense_run.passes;
    rate(passes.iter().map(|pass| pass.tokens).sum(), passes.iter().map(|pass| pass.seconds).sum())
}

fn peak(bytes_: u64) -> String {
    if bytes_ == 0 { "–".into() } else { bytes(bytes_) }
}
