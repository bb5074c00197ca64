//! The sparse pass: one SPLADE model over the chunks of a shard and over the queries. If an optional model fails, the terms
//! of the chunks' metadata replace its vectors, marked as such.

use std::{collections::BTreeMap, num::NonZeroUsize};

use crds::{
    contract::SparseConfig,
    summary::{Fallback, ModelFallback, SparsePass},
    v1alpha1::{Dtype, FallbackReason, FallbackSource},
};

use super::{
    PassContext, PassRecord, RowModel,
    exclusive::ExclusivePass,
    fallback::{fallback_reason, name_chunk},
};
use crate::{
    device::Holder,
    hub,
    model::{MetadataTerms, ModelError, SparseOptions, SpladeModel},
    process::{error::Result, metrics::METRICS, progress::Progress},
    source::Chunk,
    spill::{Chunks, SparseColumn, SparseFile, SparseSource},
    tokenizer::Tokens,
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
    pub queries: Option<Vec<SparseVector>>,
    /// The record of the pass for the summary.
    pub record: Option<SparsePass>,
    /// The fallbacks, one per reason.
    pub fallbacks: Vec<ModelFallback>,
}

/// Runs the pass of one model; the model is dropped when the pass ends. `on_start` gets the column before the first vector
/// of the model is computed.
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
    let options = SparseOptions {
        max_tokens: config.max_tokens.map(|tokens| tokens as usize),
        top_k: config.top_k.map(|top_k| top_k as usize),
        threshold: config.threshold.unwrap_or(0.0) as f32,
        tolerant: config.optional,
    };
    let holder = Holder { stage: "sparse", model: &config.name, shard: Some(shard) };
    let mut pass = ExclusivePass::begin(context, holder)?;
    let loaded = context.models.get("sparse", &config.name, context.devices, |device| {
        let folder = hub::folder(&config.name, &config.source, context.interrupt)?;
        Ok(SpladeModel::load(&config.name, &folder, options, &device.device)?)
    });
    let models = match loaded {
        Ok(models) => models,
        Err(error) => {
            let Some(reason) = fallback_reason(&error).filter(|_| config.optional) else { return Err(error) };
            tracing::warn!(model = config.name, %reason, "sparse model failed, using metadata terms: {}", error.sentence());
            METRICS.fallback("sparse", reason, FallbackSource::Load, chunks.count());
            let fallback = Fallback { reason, source: FallbackSource::Load, count: chunks.count() };
            let fallback = ModelFallback { model: config.name.clone(), fallback, message: error.sentence() };
            let terms = hub::folder(&config.name, &config.source, context.interrupt)
                .and_then(|folder| Ok(MetadataTerms::open(&config.name, &folder, options)?));
            let output = match terms {
                Ok(terms) => metadata_pass(config, options, chunks, &terms)?,
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
    let mut rows =
        RowSink { file: SparseFile::new()?, chunks: Box::new(chunks.iter()), terms, counts: Counts::default() };
    let column = SparseColumn { name: config.name.clone(), vectors: rows.file.vectors() };
    on_start(&column)?;
    let before = progress.position();
    let texts = chunks.iter().map(|chunk| chunk.map(|chunk| chunk.text));
    let record = pass
        .run(
            &models,
            texts,
            |done| progress.set(before + done),
            |window| {
                window.into_iter().try_for_each(|row| rows.take(row))?;
                rows.file.flush()
            },
        )
        .map_err(|error| name_chunk(error, chunks))?;
    let query_vectors = embed_queries(model, queries)?;
    let counts = rows.counts;
    let described = SparsePass {
        weights_sha256: model.digest().to_owned(),
        dtype: model.dtype().name().to_owned(),
        max_tokens: u32::try_from(model.tokenizer().max_tokens()).unwrap_or(u32::MAX),
        ..describe(config, options, model.vocabulary(), &record, &counts)
    };
    let fallback = |(reason, (count, message)): (FallbackReason, (u64, String))| ModelFallback {
        model: config.name.clone(),
        fallback: Fallback { reason, source: FallbackSource::Runtime, count },
        message,
    };
    let output = SparseOutput {
        column: Some(column),
        queries: (counts.model > 0).then_some(query_vectors),
        record: Some(described),
        fallbacks: counts.missing.into_iter().map(fallback).collect(),
    };
    Ok(output)
}

/// The rows by origin.
#[derive(Default)]
struct Counts {
    model: u64,
    metadata: u64,
    entries: u64,
    /// Rows that the model failed to compute, and the first error, by reason.
    missing: BTreeMap<FallbackReason, (u64, String)>,
}

/// Takes the rows of a pass in the order of the chunks.
struct RowSink<'a> {
    file: SparseFile,
    chunks: Box<dyn Iterator<Item = Result<Chunk>> + 'a>,
    terms: Option<MetadataTerms>,
    counts: Counts,
}

impl RowSink<'_> {
    fn take(&mut self, row: SparseRow) -> Result<()> {
        let chunk = self.chunks.next().transpose()?;
        let (source, vector) = match row {
            SparseRow::Vector(vector) => {
                self.counts.model += 1;
                (SparseSource::Model, vector)
            }
            SparseRow::Missing(reason, message) => {
                METRICS.fallback("sparse", reason, FallbackSource::Runtime, 1);
                let missing = self.counts.missing.entry(reason).or_insert((0, message));
                missing.0 += 1;
                self.counts.metadata += 1;
                let metadata = chunk.as_ref().map_or("", |chunk| &chunk.metadata);
                let vector = self.terms.as_ref().map(|terms| terms.vector(metadata)).transpose()?;
                (SparseSource::Metadata, vector.unwrap_or_default())
            }
        };
        self.counts.entries += vector.indices.len() as u64;
        self.file.push(source, &vector)
    }
}

/// A pass without the model: the vector of every chunk is made of its metadata terms.
fn metadata_pass(
    config: &SparseConfig,
    options: SparseOptions,
    chunks: &Chunks,
    terms: &MetadataTerms,
) -> Result<SparseOutput> {
    let mut file = SparseFile::new()?;
    let mut counts = Counts::default();
    for chunk in chunks.iter() {
        let vector = terms.vector(&chunk?.metadata)?;
        counts.metadata += 1;
        counts.entries += vector.indices.len() as u64;
        file.push(SparseSource::Metadata, &vector)?;
    }
    file.flush()?;
    let record = PassRecord { items: chunks.count(), ..PassRecord::default() };
    Ok(SparseOutput {
        column: Some(SparseColumn { name: config.name.clone(), vectors: file.vectors() }),
        record: Some(describe(config, options, terms.vocabulary(), &record, &counts)),
        ..SparseOutput::default()
    })
}

fn embed_queries(model: &SpladeModel, queries: &[&str]) -> Result<Vec<SparseVector>> {
    let mut vectors = Vec::with_capacity(queries.len());
    for queries in queries.chunks(QUERY_BATCH) {
        let tokens = queries.iter().map(|query| model.encode(query)).collect::<Result<Vec<_>, _>>()?;
        vectors.extend(model.embed(&tokens.iter().collect::<Vec<_>>())?);
    }
    Ok(vectors)
}

fn describe(
    config: &SparseConfig,
    options: SparseOptions,
    vocabulary: usize,
    record: &PassRecord,
    counts: &Counts,
) -> SparsePass {
    SparsePass {
        model: config.name.clone(),
        source: config.source.uri.clone(),
        weights_sha256: String::new(),
        dtype: Dtype::default().name().to_owned(),
        vocabulary: vocabulary as u32,
        max_tokens: 0,
        top_k: config.top_k,
        threshold: f64::from(options.threshold),
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

/// A row of a sparse pass.
#[derive(Clone, Debug, PartialEq)]
pub enum SparseRow {
    /// The vector that the model computed.
    Vector(SparseVector),
    /// The model failed for this row: the reason and the error.
    Missing(FallbackReason, String),
}

impl<T: AsRef<str> + Send + Sync> RowModel<T> for SpladeModel {
    type Rows = Vec<SparseRow>;

    fn name(&self) -> &str {
        self.name()
    }

    fn bytes_per_token(&self) -> u64 {
        self.bytes_per_token()
    }

    fn bytes_per_row(&self) -> u64 {
        // The weights of a whole vocabulary, and room for the entries that are selected.
        2 * size_of::<f32>() as u64 * self.vocabulary() as u64
    }

    fn longest(&self) -> usize {
        self.tokenizer().max_tokens()
    }

    fn size(text: &T) -> usize {
        text.as_ref().len()
    }

    fn encode_items(&self, texts: &[T], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError> {
        self.tokenizer().encode_batch(texts, threads).map_err(|source| ModelError::tokenizer(self.name(), source))
    }

    fn compute(&self, rows: &[&Tokens]) -> Result<Self::Rows, ModelError> {
        Ok(self.embed(rows)?.into_iter().map(SparseRow::Vector).collect())
    }

    fn empty(&self, count: usize) -> Self::Rows {
        vec![SparseRow::Vector(SparseVector::default()); count]
    }

    fn placeholder(&self, error: &ModelError) -> Option<Self::Rows> {
        let reason = match error {
            // Every further row would fail too, and another attempt may compute all of them.
            ModelError::DeviceLost { .. } => return None,
            ModelError::OutOfMemory { .. } => FallbackReason::OutOfMemory,
            _ => FallbackReason::ExecutionFailed,
        };
        self.options().tolerant.then(|| vec![SparseRow::Missing(reason, error.to_string())])
    }
}
