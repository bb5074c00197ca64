//! One model over all texts of a shard: loaded, run, described.

use std::{convert::Infallible, num::NonZeroUsize, sync::Arc, sync::atomic::AtomicBool, thread};

use candle_core::Device;
use crds::{contract::DenseConfig, summary::DensePass, v1alpha1};

use super::dense::{self, PassError, PassOptions};
use crate::{
    batch::{Rows, TokenBudget},
    error::{Result, StageError},
    hub,
    interrupt::Interrupt,
    model::{DenseModel, DenseOptions, ModelError, Pooling},
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
    let max_tokens = config.max_tokens.map(|tokens| tokens as usize);
    let options = DenseOptions { pooling, max_tokens, ..DenseOptions::default() };
    let folder = hub::folder(&config.name, &config.source, interrupt)?;
    Ok(DenseModel::load(&config.name, &folder, &options, device)?)
}

/// The vectors of `texts` in their order. `done` is told how many are finished; `name` is what a message calls the
/// text of a row.
pub fn embed(
    model: &DenseModel,
    texts: &[&str],
    name: impl Fn(usize) -> String,
    cancelled: Arc<AtomicBool>,
    mut done: impl FnMut(u64) + Send,
) -> Result<(Rows, dense::PassRecord)> {
    let size = |size: usize| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let options = PassOptions {
        window: size(WINDOW),
        batch: TokenBudget(BATCH_TOKENS),
        tokenizer_threads: if model.device().is_cpu() { NonZeroUsize::MIN } else { cores },
        workers: if model.device().is_cpu() { cores } else { NonZeroUsize::MIN },
        cancelled,
    };
    let mut values = Vec::with_capacity(texts.len() * model.dimensions());
    let progress = |progress: dense::Progress| done(progress.chunks);
    let take = |_, rows: Rows| -> Result<(), Infallible> {
        values.extend_from_slice(rows.values());
        Ok(())
    };
    match dense::run(model, texts.iter().map(Ok), &options, progress, take) {
        Ok(record) => Ok((Rows::new(model.dimensions(), values), record)),
        Err(PassError::Model(error)) => Err(named(error, name)),
        Err(PassError::Cancelled) => Err(Interrupt::error()),
        Err(PassError::Source(never) | PassError::Sink(never)) => match never {},
    }
}

/// An error of one text, with the name of it.
fn named(error: ModelError, name: impl Fn(usize) -> String) -> StageError {
    match error {
        ModelError::NotFinite { row, .. }
        | ModelError::Tokenizer { source: TextError::Encode { row, .. } | TextError::NoTokens { row }, .. } => {
            StageError::new(error.reason(), format!("{} cannot be embedded", name(row))).caused_by(error)
        }
        other => other.into(),
    }
}

/// What the summary says about a pass.
pub fn describe(config: &DenseConfig, model: &DenseModel, record: &dense::PassRecord) -> DensePass {
    DensePass {
        model: config.name.clone(),
        source: config.source.uri.clone(),
        weights_sha256: model.digest().to_owned(),
        pooling: model.pooling().to_string(),
        max_tokens: model.max_tokens() as u32,
        dimensions: record.dimensions as u32,
        chunks: record.chunks,
        tokens: record.tokens,
        truncated_chunks: record.truncated_chunks,
        tokens_lost: record.tokens_lost,
        batches: record.batches,
        seconds: record.seconds,
    }
}
