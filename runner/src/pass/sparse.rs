//! The sparse pass: one SPLADE model over the chunks of a shard and over the queries. If an optional model fails, the
//! terms of the chunks' metadata replace its vectors, marked as such.

use std::{num::NonZeroUsize, path::Path};

use crds::{
    contract::{ExitCode, SparseConfig},
    fingerprint::SparseFingerprint,
    summary::{Fallback, ModelFallback, SparsePass},
    v1alpha1::{Dtype, FallbackReason, FallbackSource, Similarity},
};

use super::{
    ModelKind, PassContext, PassRecord,
    exclusive::ExclusivePass,
    fallback::{fallback_reason, name_chunk},
    sparse_sink::{RowCounts, SparseSink},
};
use crate::{
    device::Holder,
    hub,
    model::{Checked, MetadataTerms, Side, SparseOptions, SpladeModel},
    process::{error::Result, metrics::METRICS, progress::Progress},
    spill::{Chunks, SparseColumn, SparseFile, SparseSource},
    vectors::SparseVector,
};

/// Queries per batch.
const QUERY_BATCH: usize = 16;

/// The output of a sparse pass over a shard.
#[derive(Default)]
pub struct SparseOutput {
    /// The column of the model; `None` if not even its tokenizer can be loaded.
    pub column: Option<SparseColumn>,
    /// One vector per query; `None` if the model computed no vector.
    pub query_vectors: Option<Vec<SparseVector>>,
    /// The record of the pass for the summary.
    pub record: Option<SparsePass>,
    /// The fallbacks, one per reason.
    pub fallbacks: Vec<ModelFallback>,
}

/// Runs the pass of one model; the model is dropped when the pass ends. `on_start` gets the column before the first
/// vector of the model is computed.
///
/// # Errors
/// If a required model fails, or for a reason that is not the model's: the disk, an interrupt, a lost device.
pub fn pass(
    context: PassContext<'_>,
    config: &SparseConfig,
    chunks: &Chunks,
    queries: &[&str],
    shard: u32,
    progress: &Progress,
    on_start: impl FnOnce(&SparseColumn) -> Result<()>,
) -> Result<SparseOutput> {
    let options = options(config);
    let holder = Holder { stage: "sparse", model: &config.name, shard: Some(shard) };
    let mut pass = ExclusivePass::begin(context, holder)?;
    let loaded = context.models.get("sparse", &config.name, context.devices, |device| {
        let folder = hub::folder(&config.name, &config.source, context.interrupt)?;
        let model = SpladeModel::load(&config.name, &folder, options, &device.device)?;
        context.pins.check(ModelKind::Sparse, &config.name, &config.source.uri, model.files())?;
        Ok(model)
    });
    let models = match loaded {
        Ok(models) => models,
        Err(error) => {
            let Some(reason) = fallback_reason(&error).filter(|_| config.optional) else { return Err(error) };
            let error_text = error.sentence();
            tracing::warn!(model = config.name, %reason, "sparse model failed, using metadata terms: {error_text}");
            METRICS.fallback("sparse", reason, FallbackSource::Load, chunks.count());
            let fallback = Fallback { reason, source: FallbackSource::Load, count: chunks.count() };
            let fallback = ModelFallback { model: config.name.clone(), fallback, message: error_text };
            let terms = hub::folder(&config.name, &config.source, context.interrupt)
                .and_then(|folder| Ok(MetadataTerms::open(&config.name, &folder, options)?));
            let output = match terms {
                Ok(terms) => metadata_pass(config, options, chunks, &terms)?,
                Err(error) if error.reason.exit_code() == ExitCode::Transient => return Err(error),
                // Without a tokenizer there is no index space, so there are no vectors at all.
                Err(_) => SparseOutput::default(),
            };
            return Ok(SparseOutput { fallbacks: vec![fallback], ..output });
        }
    };
    let model = &models[0];
    let terms = if config.optional {
        let folder = hub::folder(&config.name, &config.source, context.interrupt)?;
        Some(MetadataTerms::open(&config.name, &folder, options)?)
    } else {
        None
    };
    let mut sink = SparseSink::new(chunks, terms)?;
    let fingerprint = SparseFingerprint {
        model_sha256: model.files().digest(),
        tokenizer_sha256: model.tokenizer_digest().to_owned(),
        dtype: model.dtype().name().to_owned(),
        max_tokens: u32::try_from(model.tokenizer().max_tokens().document).unwrap_or(u32::MAX),
        document_prompt: model.prompt(Side::Document).map(ToOwned::to_owned),
        query_prompt: model.prompt(Side::Query).map(ToOwned::to_owned),
        similarity: model.similarity(),
        ..without_model(config, model.options(), model.vocabulary())
    };
    let column = SparseColumn { name: config.name.clone(), vectors: sink.vectors(), fingerprint: fingerprint.clone() };
    on_start(&column)?;
    let start = progress.position();
    let texts = chunks.iter().map(|chunk| chunk.map(|chunk| chunk.text));
    let record = pass
        .run(&models, texts, |done| progress.set(start + done), |rows| sink.push(rows))
        .map_err(|error| name_chunk(error, chunks))?;
    let query_vectors = embed_queries(model, queries)?;
    let counts = sink.finish();
    let pass_record = describe(fingerprint, model.weights_digest(), &record, &counts);
    let fallback = |(reason, (count, message)): (FallbackReason, (u64, String))| ModelFallback {
        model: config.name.clone(),
        fallback: Fallback { reason, source: FallbackSource::Runtime, count },
        message,
    };
    Ok(SparseOutput {
        column: Some(column),
        query_vectors: (counts.model > 0).then_some(query_vectors),
        record: Some(pass_record),
        fallbacks: counts.failed.into_iter().map(fallback).collect(),
    })
}

/// Checks a model in `folder` with the options of the run, without its weights beyond their headers; with neither unless
/// `weights` is set.
///
/// # Errors
/// If the model is invalid, as far as the settings show it.
pub fn check(config: &SparseConfig, folder: &Path, weights: bool) -> Result<Checked> {
    Ok(SpladeModel::check(&config.name, folder, options(config), weights)?)
}

/// The options of the run for a model.
fn options(config: &SparseConfig) -> SparseOptions {
    SparseOptions {
        max_tokens: config.max_tokens.map(|tokens| tokens as usize),
        top_k: config.top_k.map(|top_k| top_k as usize),
        threshold: config.threshold.unwrap_or(0.0) as f32,
        tolerant: config.optional,
    }
}

/// A pass without the model: the vector of every chunk is made from its metadata terms.
fn metadata_pass(
    config: &SparseConfig,
    options: SparseOptions,
    chunks: &Chunks,
    terms: &MetadataTerms,
) -> Result<SparseOutput> {
    let mut file = SparseFile::new()?;
    let mut counts = RowCounts::default();
    for chunk in chunks.iter() {
        let vector = terms.vector(&chunk?.metadata)?;
        counts.metadata += 1;
        counts.entries += vector.indices.len() as u64;
        file.push(SparseSource::Metadata, &vector)?;
    }
    file.flush()?;
    let record = PassRecord { items: chunks.count(), ..PassRecord::default() };
    let fingerprint = SparseFingerprint {
        tokenizer_sha256: terms.tokenizer_digest().to_owned(),
        ..without_model(config, options, terms.vocabulary())
    };
    Ok(SparseOutput {
        record: Some(describe(fingerprint.clone(), "", &record, &counts)),
        column: Some(SparseColumn { name: config.name.clone(), vectors: file.vectors(), fingerprint }),
        ..SparseOutput::default()
    })
}

/// One vector per query, in their order.
fn embed_queries(model: &SpladeModel, queries: &[&str]) -> Result<Vec<SparseVector>> {
    let mut vectors = Vec::with_capacity(queries.len());
    for queries in queries.chunks(QUERY_BATCH) {
        let tokens = model.encode_batch(queries, Side::Query, NonZeroUsize::MIN)?;
        vectors.extend(model.embed(&tokens.iter().collect::<Vec<_>>())?);
    }
    Ok(vectors)
}

/// What makes the vectors as long as no model is loaded: settings and an index space.
fn without_model(config: &SparseConfig, options: SparseOptions, vocabulary: usize) -> SparseFingerprint {
    SparseFingerprint {
        column: config.name.clone(),
        source: config.source.uri.clone(),
        model_sha256: String::new(),
        tokenizer_sha256: String::new(),
        vocabulary: vocabulary as u32,
        max_tokens: 0,
        document_prompt: None,
        query_prompt: None,
        dtype: Dtype::default().name().to_owned(),
        top_k: options.top_k.map(|top_k| u32::try_from(top_k).unwrap_or(u32::MAX)),
        threshold: f64::from(options.threshold),
        similarity: Similarity::of_sparse(),
    }
}

/// The record of a pass for the summary; without a model `weights_sha256` is empty.
fn describe(made_by: SparseFingerprint, weights_sha256: &str, record: &PassRecord, counts: &RowCounts) -> SparsePass {
    SparsePass {
        model: made_by.column,
        source: made_by.source,
        weights_sha256: weights_sha256.to_owned(),
        model_sha256: made_by.model_sha256,
        dtype: made_by.dtype,
        similarity: made_by.similarity,
        vocabulary: made_by.vocabulary,
        max_tokens: made_by.max_tokens,
        top_k: made_by.top_k,
        threshold: made_by.threshold,
        chunks: record.items,
        model_chunks: counts.model,
        metadata_chunks: counts.metadata,
        entries: counts.entries,
        tokens: record.tokens,
        truncated_chunks: record.truncated,
        tokens_lost: record.tokens_lost,
        batches: record.batches,
        seconds: record.seconds,
        peak_bytes: record.peak_bytes,
        mitigations: record.mitigations,
    }
}
