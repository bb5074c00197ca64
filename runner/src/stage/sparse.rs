//! The sparse stage: one SPLADE model over the chunks of a shard and over the queries. What an optional model cannot do,
//! the terms of the chunks' metadata stand in for, marked as such.

use crds::{
    contract::SparseConfig,
    summary::{Fallback, ModelFallback, SparsePass},
    v1alpha1::{Dtype, FallbackReason, FallbackSource},
};

use super::{
    Run,
    dense::{fallback_reason, named},
    turn::Turn,
};
use crate::{
    batched::PassRecord,
    error::Result,
    gpu::{Devices, Holder, Ledger},
    hub,
    metrics::METRICS,
    model::{MetadataTerms, SparseModel, SparseOptions, SparseRow, SparseVector},
    progress::Progress,
    scratch::{Chunks, SparseFile, SparseSource, SparseVectors},
};

/// Queries that are embedded together.
const QUERY_BATCH: usize = 16;

/// A sparse column.
#[derive(Clone)]
pub struct SparseColumn {
    /// The model's name, and the beginning of the names of its columns.
    pub name: String,
    /// A vector per chunk.
    pub vectors: SparseVectors,
}

impl SparseColumn {
    /// The name of one of its columns.
    pub fn part(&self, part: &str) -> String {
        format!("{}_{part}", self.name)
    }
}

/// What a sparse model gave for a shard.
#[derive(Default)]
pub struct SparseOutput {
    /// Its column; none where there is not even a tokenizer.
    pub column: Option<SparseColumn>,
    /// A vector per query; none where the model made no vector.
    pub queries: Option<Vec<SparseVector>>,
    /// What was done.
    pub record: Option<SparsePass>,
    /// What was not, by reason.
    pub fallbacks: Vec<ModelFallback>,
}

/// One pass: the model is gone when it is over. `began` gets the column before the first vector of the model is in it.
#[allow(clippy::too_many_arguments)]
pub fn pass(
    run: &Run,
    config: &SparseConfig,
    chunks: &Chunks,
    queries: &[&str],
    devices: &Devices,
    ledger: &Ledger,
    shard: u32,
    progress: &Progress,
    began: impl FnOnce(&SparseColumn) -> Result<()>,
) -> Result<SparseOutput> {
    let options = SparseOptions {
        max_tokens: config.max_tokens.map(|tokens| tokens as usize),
        top_k: config.top_k.map(|top_k| top_k as usize),
        threshold: config.threshold.unwrap_or(0.0) as f32,
        tolerant: config.optional,
    };
    let holder = Holder { stage: "sparse", model: &config.name, shard: Some(shard) };
    let mut turn = Turn::begin(run, holder, devices, ledger)?;
    let loaded = run.resident.get("sparse", &config.name, devices, |device| {
        let folder = hub::folder(&config.name, &config.source, &run.interrupt)?;
        Ok(SparseModel::load(&config.name, &folder, options, &device.device)?)
    });
    let models = match loaded {
        Ok(models) => models,
        Err(error) => {
            let Some(reason) = fallback_reason(&error).filter(|_| config.optional) else { return Err(error) };
            tracing::warn!(model = config.name, %reason, "terms of the metadata stand in: {}", error.sentence());
            METRICS.fallback("sparse", reason, FallbackSource::Load, chunks.count());
            let fallback = Fallback { reason, source: FallbackSource::Load, count: chunks.count() };
            let fallback = ModelFallback { model: config.name.clone(), fallback, message: error.sentence() };
            let terms = hub::folder(&config.name, &config.source, &run.interrupt)
                .and_then(|folder| Ok(MetadataTerms::open(&config.name, &folder, options)?));
            let output = match terms {
                Ok(terms) => of_metadata(config, options, chunks, &terms)?,
                // Nothing has an index space then, and nothing can be said of a chunk.
                Err(_) => SparseOutput::default(),
            };
            return Ok(SparseOutput { fallbacks: vec![fallback], ..output });
        }
    };
    let model = &models[0];
    let terms = if config.optional {
        let folder = hub::folder(&config.name, &config.source, &run.interrupt)?;
        Some(MetadataTerms::open(&config.name, &folder, options)?)
    } else {
        None
    };
    let mut rows = Sink { file: SparseFile::new()?, chunks: Box::new(chunks.iter()), terms, counts: Counts::default() };
    let column = SparseColumn { name: config.name.clone(), vectors: rows.file.vectors() };
    began(&column)?;
    let before = progress.position();
    let texts = chunks.iter().map(|chunk| chunk.map(|chunk| chunk.text));
    let record = turn
        .run(
            &models,
            texts,
            |done| progress.set(before + done),
            |window| {
                window.into_iter().try_for_each(|row| rows.take(row))?;
                rows.file.flush()
            },
        )
        .map_err(|error| named(error, chunks))?;
    let asked = embed_queries(model, queries)?;
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
        queries: (counts.model > 0).then_some(asked),
        record: Some(described),
        fallbacks: counts.missing.into_iter().map(fallback).collect(),
    };
    Ok(output)
}

/// What became of the rows.
#[derive(Default)]
struct Counts {
    model: u64,
    metadata: u64,
    entries: u64,
    /// How many the model could not make, and the first error, by reason.
    missing: std::collections::BTreeMap<FallbackReason, (u64, String)>,
}

/// Takes the rows of a pass in the order of the chunks.
struct Sink<'a> {
    file: SparseFile,
    chunks: Box<dyn Iterator<Item = Result<crate::source::Chunk>> + 'a>,
    terms: Option<MetadataTerms>,
    counts: Counts,
}

impl Sink<'_> {
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

/// Every chunk's vector of its metadata.
fn of_metadata(
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

fn embed_queries(model: &SparseModel, queries: &[&str]) -> Result<Vec<SparseVector>> {
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
