//! One model over all chunks of a shard: loaded, run, described.

use std::{num::NonZeroUsize, thread};

use candle_core::Device;
use crds::{
    contract::{DenseConfig, FailureReason},
    summary::DensePass,
    v1alpha1::{self, Dtype, Precision},
};

use super::dense::{self, PassError, PassOptions};
use crate::{
    batch::{Rows, TokenBudget},
    error::{Result, StageError},
    hub,
    interrupt::Interrupt,
    model::{DenseModel, DenseOptions, ModelError, Pooling, Side},
    precision,
    scratch::Chunks,
    text::TextError,
};

/// Texts that are tokenized and sorted by length together.
const WINDOW: usize = 512;
/// Tokens of a batch.
const BATCH_TOKENS: usize = 1024;

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
        dtype: config.dtype.unwrap_or_default(),
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

/// The pass of a model over the texts of `chunks`, whose vectors the `sink` gets in their order. `done` is told how many
/// are finished.
pub fn run(
    model: &DenseModel,
    chunks: &Chunks,
    interrupt: &Interrupt,
    mut done: impl FnMut(u64),
    mut sink: impl FnMut(Rows) -> Result<()>,
) -> Result<dense::PassRecord> {
    let size = |size: usize| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    // On a CPU the workers have every core, and one thread tokenizes a hundred times faster than they embed.
    let (workers, tokenizer_threads) =
        if model.device().is_cpu() { (cores, NonZeroUsize::MIN) } else { (NonZeroUsize::MIN, cores) };
    let options = PassOptions {
        window: size(WINDOW),
        batch: TokenBudget(BATCH_TOKENS),
        tokenizer_threads,
        workers,
        cancelled: interrupt.flag(),
    };
    let texts = chunks.iter().map(|chunk| chunk.map(|chunk| chunk.text));
    match dense::run(model, texts, &options, |progress| done(progress.chunks), |_, rows| sink(rows)) {
        Ok(record) => Ok(record),
        Err(PassError::Model(error)) => Err(named(error, chunks)),
        Err(PassError::Cancelled) => Err(Interrupt::error()),
        Err(PassError::Source(error) | PassError::Sink(error)) => Err(error),
    }
}

/// An error of one text, with the id of its chunk.
fn named(error: ModelError, chunks: &Chunks) -> StageError {
    match error {
        ModelError::NotFinite { row, .. }
        | ModelError::Tokenizer { source: TextError::Encode { row, .. } | TextError::NoTokens { row }, .. } => {
            let chunk = chunks.id(row).map_or_else(|| format!("chunk {row}"), |id| format!("chunk {id:?}"));
            StageError::new(error.reason(), format!("{chunk} cannot be embedded")).caused_by(error)
        }
        other => other.into(),
    }
}

/// What the summary says about a pass.
pub fn describe(config: &DenseConfig, model: &DenseModel, record: &dense::PassRecord) -> DensePass {
    let precision = config.precision.unwrap_or_default();
    let dtype = match config.dtype.unwrap_or_default() {
        Dtype::F32 => "F32",
        Dtype::F16 => "F16",
        Dtype::Bf16 => "BF16",
        Dtype::Int8 => "Int8",
    };
    DensePass {
        model: config.name.clone(),
        source: config.source.uri.clone(),
        weights_sha256: model.digest().to_owned(),
        pooling: model.pooling().to_string(),
        max_tokens: model.max_tokens() as u32,
        dimensions: record.dimensions as u32,
        dtype: dtype.to_owned(),
        precision: format!("{precision:?}"),
        quantization: match precision {
            Precision::F32 | Precision::F16 => None,
            Precision::Int8 => Some(precision::INT8.to_owned()),
            Precision::Binary => Some(precision::BINARY.to_owned()),
        },
        document_prompt: model.prompt(Side::Document).map(ToOwned::to_owned),
        chunks: record.chunks,
        tokens: record.tokens,
        truncated_chunks: record.truncated_chunks,
        tokens_lost: record.tokens_lost,
        batches: record.batches,
        seconds: record.seconds,
    }
}
