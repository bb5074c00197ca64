//! The dense stage: one model over the chunks of a shard and over the queries, loaded, run, described.

use std::num::NonZeroUsize;

use candle_core::Device;
use crds::{
    contract::{DenseConfig, FailureReason},
    summary::{DensePass, Fallback, LengthBucket, ModelFallback},
    v1alpha1::{self, FallbackReason, FallbackSource, Precision},
};

use super::{Run, export::VectorColumn, turn::Turn};
use crate::{
    batch::Rows,
    batched::{PassError, PassRecord},
    error::{Result, StageError},
    gpu::{ComputeDevice, Devices, Holder, Ledger},
    hub,
    interrupt::Interrupt,
    metrics::METRICS,
    model::{DenseModel, DenseOptions, ModelError, Pooling, Side, natural_dtype},
    precision,
    progress::Progress,
    scratch::{Chunks, VectorFile},
    text::TextError,
};

/// Queries that are embedded together.
const QUERY_BATCH: usize = 16;

/// What a model of the ensemble gave for a shard.
pub struct DenseOutput {
    /// Its column.
    pub column: VectorColumn,
    /// Its weight in the fused vector.
    pub weight: f64,
    /// A vector per query.
    pub queries: Rows,
    /// What was done.
    pub record: DensePass,
}

/// One pass: the model is gone when it is over. An optional model that fails is a fallback in place of the output.
/// `began` gets the column before the first vector is in it.
#[allow(clippy::too_many_arguments)]
pub fn pass(
    run: &Run,
    config: &DenseConfig,
    chunks: &Chunks,
    queries: &[&str],
    devices: &Devices,
    ledger: &Ledger,
    shard: u32,
    progress: &Progress,
    began: impl FnOnce(&VectorColumn) -> Result<()>,
) -> Result<Result<DenseOutput, ModelFallback>> {
    let holder = Holder { stage: "dense", model: &config.name, shard: Some(shard) };
    let mut turn = Turn::begin(run, holder, devices, ledger)?;
    let before = progress.position();
    let load = |device: &ComputeDevice| load(config, &device.device, &run.interrupt);
    let models = match run.resident.get("dense", &config.name, devices, load) {
        Ok(models) => models,
        Err(error) => return fall_back(config, error, FallbackSource::Load).map(Err),
    };
    let model = &models[0];
    let mut vectors = VectorFile::new(model.dimensions())?;
    let column = VectorColumn {
        name: config.name.clone(),
        vectors: vectors.vectors(),
        precision: config.precision.unwrap_or_default(),
    };
    began(&column)?;
    let texts = chunks.iter().map(|chunk| chunk.map(|chunk| chunk.text));
    let passed = turn.run(&models, texts, |done| progress.set(before + done), |rows| vectors.push(&rows));
    let passed =
        passed.map_err(|error| named(error, chunks)).and_then(|record| Ok((embed_queries(model, queries)?, record)));
    let (queries, record) = match passed {
        Ok(done) => done,
        Err(error) => {
            progress.set(before + chunks.count());
            return fall_back(config, error, FallbackSource::Runtime).map(Err);
        }
    };
    let described = describe(config, model, &record);
    Ok(Ok(DenseOutput { column, weight: config.weight, queries, record: described }))
}

/// The fallback that a failed optional model is.
///
/// # Errors
/// The failure itself, where the model is required, or where it is none of the model's.
fn fall_back(config: &DenseConfig, error: StageError, source: FallbackSource) -> Result<ModelFallback> {
    match fallback_reason(&error).filter(|_| config.optional) {
        Some(reason) => {
            tracing::warn!(model = config.name, %reason, "left out: {}", error.sentence());
            METRICS.fallback("dense", reason, source, 1);
            let fallback = Fallback { reason, source, count: 1 };
            Ok(ModelFallback { model: config.name.clone(), fallback, message: error.sentence() })
        }
        None => Err(error),
    }
}

/// The reason of the fallback when a model fails so; none where another attempt may succeed, or where the configuration,
/// the disk or the user is the cause.
pub fn fallback_reason(error: &StageError) -> Option<FallbackReason> {
    match error.reason {
        FailureReason::ModelNotFound
        | FailureReason::ModelAccessDenied
        | FailureReason::HubUnavailable
        | FailureReason::InvalidModel => Some(FallbackReason::ModelUnavailable),
        FailureReason::OutOfMemory => Some(FallbackReason::OutOfMemory),
        FailureReason::InvalidVector | FailureReason::InvalidRecord | FailureReason::Internal => {
            Some(FallbackReason::ExecutionFailed)
        }
        _ => None,
    }
}

/// Loads a model as the run wants it, from a hub where it is there.
pub fn load(config: &DenseConfig, device: &Device, interrupt: &Interrupt) -> Result<DenseModel> {
    let pooling = config.pooling.map(|pooling| match pooling {
        v1alpha1::Pooling::Cls => Pooling::Cls,
        v1alpha1::Pooling::Mean => Pooling::Mean,
        v1alpha1::Pooling::LastToken => Pooling::LastToken,
        v1alpha1::Pooling::Max => Pooling::Max,
        v1alpha1::Pooling::WeightedMean => Pooling::WeightedMean,
    });
    let prompts = config.prompts.clone().unwrap_or_default();
    let options = DenseOptions {
        pooling,
        max_tokens: config.max_tokens.map(|tokens| tokens as usize),
        dimensions: config.dimensions.map(|dimensions| dimensions as usize),
        document_prompt: prompts.document,
        query_prompt: prompts.query,
        dtype: config.dtype.unwrap_or_else(|| natural_dtype(device)),
        ..DenseOptions::default()
    };
    let folder = hub::folder(&config.name, &config.source, interrupt)?;
    let model = DenseModel::load(&config.name, &folder, &options, device)?;
    if config.precision == Some(Precision::Binary) && !model.dimensions().is_multiple_of(8) {
        let message = format!(
            "model {}: precision Binary packs eight dimensions to a byte, but its vectors have {}; set dimensions to a \
             multiple of 8",
            config.name,
            model.dimensions()
        );
        return Err(StageError::new(FailureReason::InvalidConfiguration, message));
    }
    Ok(model)
}

/// A vector per query, made as the model makes those of questions.
fn embed_queries(model: &DenseModel, queries: &[&str]) -> Result<Rows> {
    let mut values = Vec::with_capacity(queries.len() * model.dimensions());
    for queries in queries.chunks(QUERY_BATCH) {
        let tokens = model.encode_batch(queries, Side::Query, NonZeroUsize::MIN)?;
        values.extend(model.embed(&tokens.iter().collect::<Vec<_>>())?.into_values());
    }
    Ok(Rows::new(model.dimensions(), values))
}

/// The error of a pass over chunks; that of one text has the id of its chunk.
pub fn named(error: PassError<StageError>, chunks: &Chunks) -> StageError {
    let error = match error {
        PassError::Model(error) => error,
        PassError::Cancelled => return Interrupt::error(),
        PassError::Source(error) | PassError::Sink(error) => return error,
    };
    match error {
        ModelError::NotFinite { row, .. }
        | ModelError::OutOfMemory { row: Some(row), .. }
        | ModelError::Tokenizer { source: TextError::Encode { row, .. } | TextError::NoTokens { row }, .. } => {
            let chunk = chunks.id(row).map_or_else(|| format!("chunk {row}"), |id| format!("chunk {id:?}"));
            StageError::new(error.reason(), format!("{chunk} cannot be embedded")).caused_by(error)
        }
        other => other.into(),
    }
}

/// The lengths of a pass as the summary has them.
fn buckets(record: &PassRecord) -> Vec<LengthBucket> {
    record.lengths.iter().map(|(up_to, chunks)| LengthBucket { up_to: *up_to, chunks: *chunks }).collect()
}

/// What the summary says about a pass.
fn describe(config: &DenseConfig, model: &DenseModel, record: &PassRecord) -> DensePass {
    let precision = config.precision.unwrap_or_default();
    DensePass {
        model: config.name.clone(),
        source: config.source.uri.clone(),
        weights_sha256: model.digest().to_owned(),
        pooling: model.pooling().to_string(),
        max_tokens: u32::try_from(model.max_tokens()).unwrap_or(u32::MAX),
        dimensions: model.dimensions() as u32,
        dtype: model.dtype().name().to_owned(),
        precision: format!("{precision:?}"),
        quantization: match precision {
            Precision::F32 | Precision::F16 => None,
            Precision::Int8 => Some(precision::INT8.to_owned()),
            Precision::Binary => Some(precision::BINARY.to_owned()),
        },
        document_prompt: model.prompt(Side::Document).map(ToOwned::to_owned),
        chunks: record.items,
        tokens: record.tokens,
        truncated_chunks: record.truncated,
        tokens_lost: record.tokens_lost,
        batches: record.batches,
        seconds: record.seconds,
        peak_bytes: record.peak_bytes,
        mitigations: record.mitigations,
        token_lengths: buckets(record),
    }
}
