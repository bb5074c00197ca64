//! The dense pass: one model over the chunks of a shard and over the queries.

use std::{num::NonZeroUsize, path::Path};

use candle_core::Device;
use crds::{
    contract::{DenseConfig, FailureReason},
    fingerprint::{ColumnFingerprint, DenseFingerprint},
    summary::{DensePass, Fallback, LengthBucket, ModelFallback},
    v1alpha1::{self, FallbackSource, Precision},
};

use super::{
    ModelKind, PassContext, PassRecord, RowModel,
    exclusive::ExclusivePass,
    fallback::{fallback_reason, name_chunk},
};
use crate::{
    device::{ComputeDevice, Holder},
    hub,
    model::{Checked, DenseEncoder, DenseOptions, ModelError, Pooling, Side},
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
        metrics::METRICS,
        progress::Progress,
    },
    spill::{Chunks, VectorColumn, VectorFile},
    tokenizer::Tokens,
    vectors::{Rows, quantize},
};

/// Queries per batch.
const QUERY_BATCH: usize = 16;

/// The output of a dense pass over a shard.
pub struct DenseOutput {
    /// The column of the model.
    pub column: VectorColumn,
    /// The weight of the model in the fused vector.
    pub weight: f64,
    /// One vector per query.
    pub query_vectors: Rows,
    /// The record of the pass for the summary.
    pub record: DensePass,
}

/// Runs the pass of one model; the model is dropped when the pass ends. `on_start` gets the column before its first
/// vector is computed. If an optional model fails, the inner result is its fallback.
///
/// # Errors
/// If a required model fails, or for a reason that is not the model's: the disk, an interrupt, a lost device.
pub fn pass(
    context: PassContext<'_>,
    config: &DenseConfig,
    chunks: &Chunks,
    queries: &[&str],
    shard: u32,
    progress: &Progress,
    on_start: impl FnOnce(&VectorColumn) -> Result<()>,
) -> Result<Result<DenseOutput, ModelFallback>> {
    let holder = Holder { stage: "dense", model: &config.name, shard: Some(shard) };
    let mut pass = ExclusivePass::begin(context, holder)?;
    let start = progress.position();
    let load = |device: &ComputeDevice| -> Result<DenseEncoder> {
        let model = load(config, &device.device, context.interrupt)?;
        context.pins.check(ModelKind::Dense, &config.name, &config.source.uri, model.files())?;
        Ok(model)
    };
    let models = match context.models.get("dense", &config.name, context.devices, load) {
        Ok(models) => models,
        Err(error) => return fall_back(config, error, FallbackSource::Load).map(Err),
    };
    let model = &models[0];
    let precision = config.precision.unwrap_or_default();
    let mut vectors = VectorFile::new(model.dimensions())?;
    let column = VectorColumn {
        name: config.name.clone(),
        vectors: vectors.vectors(),
        precision,
        fingerprint: ColumnFingerprint::Dense(fingerprint(config, model)),
    };
    on_start(&column)?;
    let texts = chunks.iter().map(|chunk| chunk.map(|chunk| chunk.text));
    let mut pushed = 0;
    let sink = |rows: Rows| {
        check_range(config, precision, &rows, pushed, chunks)?;
        pushed += rows.len();
        vectors.push(&rows)
    };
    let embedded = pass
        .run(&models, texts, |done| progress.set(start + done), sink)
        .map_err(|error| name_chunk(error, chunks))
        .and_then(|record| Ok((embed_queries(model, queries)?, record)));
    let (query_vectors, record) = match embedded {
        Ok(embedded) => embedded,
        Err(error) => {
            progress.set(start + chunks.count());
            return fall_back(config, error, FallbackSource::Runtime).map(Err);
        }
    };
    let record = describe(fingerprint(config, model), model.weights_digest(), &record);
    Ok(Ok(DenseOutput { column, weight: config.weight, query_vectors, record }))
}

/// The fallback of an optional model that failed.
///
/// # Errors
/// The failure itself if the model is required, or if the model is not its cause.
fn fall_back(config: &DenseConfig, error: StageError, source: FallbackSource) -> Result<ModelFallback> {
    match fallback_reason(&error).filter(|_| config.optional) {
        Some(reason) => {
            let error_text = error.sentence();
            tracing::warn!(model = config.name, %reason, "optional dense model failed, leaving it out: {error_text}");
            METRICS.fallback("dense", reason, source, 1);
            let fallback = Fallback { reason, source, count: 1 };
            Ok(ModelFallback { model: config.name.clone(), fallback, message: error_text })
        }
        None => Err(error),
    }
}

/// Checks a model in `folder` with the options of the run, without its weights beyond their headers; with neither unless
/// `weights` is set.
///
/// # Errors
/// If the model or its options are invalid, as far as the settings show it.
pub fn check(config: &DenseConfig, folder: &Path, weights: bool) -> Result<Checked> {
    let checked = DenseEncoder::check(&config.name, folder, &options(config), weights)?;
    if let Some(dimensions) = checked.dimensions {
        check_precision(config, dimensions)?;
    }
    Ok(checked)
}

/// Loads a model with the options of the run; a model of a hub is fetched first.
///
/// # Errors
/// If the model cannot be fetched or loaded, its options do not fit it, or the run is interrupted.
pub fn load(config: &DenseConfig, device: &Device, interrupt: &Interrupt) -> Result<DenseEncoder> {
    let folder = hub::folder(&config.name, &config.source, interrupt)?;
    let model = DenseEncoder::load(&config.name, &folder, &options(config), device)?;
    check_precision(config, model.dimensions())?;
    Ok(model)
}

/// The options of the run for a model.
fn options(config: &DenseConfig) -> DenseOptions {
    let pooling = config.pooling.map(|pooling| match pooling {
        v1alpha1::Pooling::Cls => Pooling::Cls,
        v1alpha1::Pooling::Mean => Pooling::Mean,
        v1alpha1::Pooling::LastToken => Pooling::LastToken,
        v1alpha1::Pooling::Max => Pooling::Max,
        v1alpha1::Pooling::WeightedMean => Pooling::WeightedMean,
    });
    let prompts = config.prompts.clone().unwrap_or_default();
    DenseOptions {
        pooling,
        max_tokens: config.max_tokens.map(|tokens| tokens as usize),
        dimensions: config.dimensions.map(|dimensions| dimensions as usize),
        document_prompt: prompts.document,
        query_prompt: prompts.query,
        dtype: config.dtype,
        ..DenseOptions::default()
    }
}

/// Checks that vectors of so many `dimensions` can be stored in the requested precision.
fn check_precision(config: &DenseConfig, dimensions: usize) -> Result<()> {
    if config.precision == Some(Precision::Binary) && !dimensions.is_multiple_of(8) {
        let message = format!(
            "model {}: precision Binary packs eight dimensions to a byte, but its vectors have {dimensions}; set \
             dimensions to a multiple of 8",
            config.name
        );
        return Err(StageError::new(FailureReason::InvalidConfiguration, message));
    }
    Ok(())
}

/// Embeds the queries, with the model's query prompt.
fn embed_queries(model: &DenseEncoder, queries: &[&str]) -> Result<Rows> {
    let mut values = Vec::with_capacity(queries.len() * model.dimensions());
    for queries in queries.chunks(QUERY_BATCH) {
        let tokens = model.encode_batch(queries, Side::Query, NonZeroUsize::MIN)?;
        values.extend(model.embed(&tokens.iter().collect::<Vec<_>>())?.into_values());
    }
    Ok(Rows::new(model.dimensions(), values))
}

/// Checks that the stored form can hold the vectors; the first is that of chunk number `first`.
///
/// # Errors
/// If a value is beyond the range of the precision; the error names the chunk.
fn check_range(config: &DenseConfig, precision: Precision, rows: &Rows, first: usize, chunks: &Chunks) -> Result<()> {
    let Some((row, value)) = quantize::beyond_range(rows, precision) else { return Ok(()) };
    let chunk = chunks.id(first + row).map_or_else(|| format!("chunk {}", first + row), |id| format!("chunk {id:?}"));
    let message = format!(
        "model {}: the vector of {chunk} has the value {value}, which precision {precision:?} cannot store; set \
         precision to F32",
        config.name
    );
    Err(StageError::new(FailureReason::InvalidVector, message))
}

/// What makes the vectors of a model.
pub fn fingerprint(config: &DenseConfig, model: &DenseEncoder) -> DenseFingerprint {
    DenseFingerprint {
        column: config.name.clone(),
        source: config.source.uri.clone(),
        model_sha256: model.files().digest(),
        tokenizer_sha256: model.tokenizer_digest().to_owned(),
        pooling: model.poolings().iter().map(ToString::to_string).collect::<Vec<_>>().join("+"),
        max_tokens: u32::try_from(model.max_tokens()).unwrap_or(u32::MAX),
        document_prompt: model.prompt(Side::Document).map(ToOwned::to_owned),
        query_prompt: model.prompt(Side::Query).map(ToOwned::to_owned),
        dtype: model.dtype().name().to_owned(),
        dimensions: model.dimensions() as u32,
        precision: config.precision.unwrap_or_default(),
        similarity: model.similarity(),
    }
}

/// The length histogram of a pass for the summary.
fn length_buckets(record: &PassRecord) -> Vec<LengthBucket> {
    record.lengths.iter().map(|(up_to, chunks)| LengthBucket { up_to: *up_to, chunks: *chunks }).collect()
}

/// The record of a pass for the summary.
fn describe(made_by: DenseFingerprint, weights_sha256: &str, record: &PassRecord) -> DensePass {
    DensePass {
        model: made_by.column,
        source: made_by.source,
        weights_sha256: weights_sha256.to_owned(),
        model_sha256: made_by.model_sha256,
        tokenizer_sha256: made_by.tokenizer_sha256,
        pooling: made_by.pooling,
        max_tokens: made_by.max_tokens,
        dimensions: made_by.dimensions,
        dtype: made_by.dtype,
        precision: format!("{:?}", made_by.precision),
        quantization: match made_by.precision {
            Precision::F32 | Precision::F16 => None,
            Precision::Int8 => Some(quantize::INT8.to_owned()),
            Precision::Binary => Some(quantize::BINARY.to_owned()),
        },
        document_prompt: made_by.document_prompt,
        query_prompt: made_by.query_prompt,
        similarity: made_by.similarity,
        chunks: record.items,
        tokens: record.tokens,
        truncated_chunks: record.truncated,
        tokens_lost: record.tokens_lost,
        batches: record.batches,
        seconds: record.seconds,
        peak_bytes: record.peak_bytes,
        mitigations: record.mitigations,
        token_lengths: length_buckets(record),
    }
}

impl<T: AsRef<str> + Send + Sync> RowModel<T> for DenseEncoder {
    type Rows = Rows;

    fn name(&self) -> &str {
        self.name()
    }

    fn bytes_per_token(&self) -> u64 {
        self.bytes_per_token()
    }

    fn longest(&self) -> usize {
        self.max_tokens()
    }

    fn size(text: &T) -> usize {
        text.as_ref().len()
    }

    fn encode_items(&self, texts: &[T], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError> {
        self.encode_batch(texts, Side::Document, threads)
    }

    fn compute(&self, rows: &[&Tokens]) -> Result<Rows, ModelError> {
        self.embed(rows)
    }

    fn empty(&self, count: usize) -> Rows {
        Rows::new(self.dimensions(), vec![0.0; count * self.dimensions()])
    }
}
