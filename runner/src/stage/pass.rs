//! One model over all texts of a shard: loaded, run, described.

use std::{convert::Infallible, num::NonZeroUsize, path::Path, sync::Arc, sync::atomic::AtomicBool, thread};

use candle_core::Device;
use crds::{
    contract::{DenseConfig, FailureReason},
    summary::DensePass,
};

use super::dense::{self, PassError, PassOptions};
use crate::{
    batch::{Rows, TokenBudget},
    error::{Result, StageError},
    model::{DenseModel, DenseOptions},
};

/// Texts that are tokenized and sorted by length together.
const WINDOW: usize = 4096;
/// Tokens of a batch, padding included.
const BATCH_TOKENS: usize = 4096;

/// Loads a model as the run wants it.
pub fn load(config: &DenseConfig, device: &Device) -> Result<DenseModel> {
    let pooling = config.pooling.map(TryInto::try_into).transpose().map_err(|error| {
        StageError::new(FailureReason::InvalidConfiguration, format!("model {}", config.name)).caused_by(error)
    })?;
    let max_tokens = config.max_tokens.map(|tokens| tokens as usize);
    let options = DenseOptions { pooling, max_tokens, ..DenseOptions::default() };
    Ok(DenseModel::load(&config.name, Path::new(&config.source.path), &options, device)?)
}

/// The vectors of `texts` in their order; `done` is told how many are finished.
pub fn embed(
    model: &DenseModel,
    texts: &[&str],
    cancelled: Arc<AtomicBool>,
    mut done: impl FnMut(u64) + Send,
) -> Result<(Rows, dense::PassRecord), PassError<Infallible>> {
    let size = |size: usize| NonZeroUsize::new(size).unwrap_or(NonZeroUsize::MIN);
    let options = PassOptions {
        window: size(WINDOW),
        batch: TokenBudget(BATCH_TOKENS),
        tokenizer_threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        cancelled,
    };
    let mut values = Vec::with_capacity(texts.len() * model.dimensions());
    let progress = |progress: dense::Progress| done(progress.chunks);
    let record = dense::run(model, texts.iter(), &options, progress, |_, rows: Rows| {
        values.extend_from_slice(rows.values());
        Ok(())
    })?;
    Ok((Rows::new(model.dimensions(), values), record))
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
