//! The dense pass: one model over texts, tokenized ahead of the device, in token-budget batches, back in input
//! order.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

use crate::{
    batch::{self, Rows, TokenBudget},
    model::{DenseModel, ModelError},
    text::Tokens,
};

/// Windows that are tokenized before the device asks for them.
const WINDOWS_AHEAD: usize = 2;

/// How a pass works; nothing here changes a vector beyond rounding.
#[derive(Clone, Debug)]
pub struct PassOptions {
    /// Texts that are sorted by length together and held in memory at a time.
    pub window: NonZeroUsize,
    /// Tokens of one batch, padding included.
    pub batch: TokenBudget,
    /// Threads that tokenize.
    pub tokenizer_threads: NonZeroUsize,
    /// Stops the pass between two batches once it is true.
    pub cancelled: Arc<AtomicBool>,
}

/// What a pass has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chunks embedded.
    pub chunks: u64,
    /// Tokens embedded, special tokens included.
    pub tokens: u64,
}

/// What a pass did.
#[derive(Clone, Debug, PartialEq)]
pub struct PassRecord {
    /// The model's name.
    pub model: String,
    /// The width of the vectors.
    pub dimensions: usize,
    /// Chunks embedded.
    pub chunks: u64,
    /// Tokens embedded, special tokens included.
    pub tokens: u64,
    /// Chunks that were longer than the model takes.
    pub truncated_chunks: u64,
    /// Tokens cut from them.
    pub tokens_lost: u64,
    /// Batches computed.
    pub batches: u64,
    /// How long the pass took, in seconds.
    pub seconds: f64,
}

/// Why a pass ended early. `E` is the error of the sink.
#[derive(Debug, thiserror::Error)]
pub enum PassError<E> {
    /// The model failed; a row in the error is the row among all texts of the pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The sink did not take the rows.
    #[error("the vectors cannot be taken")]
    Sink(#[source] E),
    /// The pass was told to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Runs `model` over `texts`. The `sink` gets the vectors window by window in input order, with the row of each
/// window's first text; `progress` is called after every batch.
///
/// # Errors
/// If the model or the sink fails, or the pass is cancelled. Windows that the sink got before that are whole.
pub fn run<T, E>(
    model: &DenseModel,
    texts: impl Iterator<Item = T> + Send,
    options: &PassOptions,
    mut progress: impl FnMut(Progress),
    mut sink: impl FnMut(usize, Rows) -> Result<(), E>,
) -> Result<PassRecord, PassError<E>>
where
    T: AsRef<str> + Send + Sync,
{
    let started = Instant::now();
    let mut done = Progress::default();
    let (mut truncated_chunks, mut tokens_lost, mut batches) = (0, 0, 0);
    thread::scope(|scope| {
        let (ahead, windows) = sync_channel(WINDOWS_AHEAD);
        scope.spawn(move || tokenize_ahead(model, texts, options, &ahead));
        for window in windows {
            let window = window?;
            truncated_chunks += window.rows.iter().filter(|tokens| tokens.lost > 0).count() as u64;
            tokens_lost += window.rows.iter().map(|tokens| tokens.lost as u64).sum::<u64>();
            let plan = batch::batches(&window.lengths(), options.batch);
            let mut computed = Vec::with_capacity(plan.len());
            for batch in &plan {
                if options.cancelled.load(Ordering::Relaxed) {
                    return Err(PassError::Cancelled);
                }
                computed.push(window.embed(model, batch)?);
                batches += 1;
                done.chunks += batch.len() as u64;
                done.tokens += batch.iter().map(|&row| window.rows[row].ids.len() as u64).sum::<u64>();
                progress(done);
            }
            sink(window.first, batch::restore(&plan, &computed, model.dimensions())).map_err(PassError::Sink)?;
        }
        Ok(())
    })?;
    Ok(PassRecord {
        model: model.name().to_owned(),
        dimensions: model.dimensions(),
        chunks: done.chunks,
        tokens: done.tokens,
        truncated_chunks,
        tokens_lost,
        batches,
        seconds: started.elapsed().as_secs_f64(),
    })
}

/// Encoded texts that are batched together.
struct Window {
    /// The row of the first among all texts of the pass.
    first: usize,
    rows: Vec<Tokens>,
}

impl Window {
    fn lengths(&self) -> Vec<usize> {
        self.rows.iter().map(|tokens| tokens.ids.len()).collect()
    }

    /// Computes the rows of one batch; an error names the row among all texts.
    fn embed(&self, model: &DenseModel, batch: &[usize]) -> Result<Rows, ModelError> {
        let rows: Vec<&Tokens> = batch.iter().map(|&row| &self.rows[row]).collect();
        model.embed(&rows).map_err(|error| error.at_row(|row| self.first + batch[row]))
    }
}

/// Sends the texts on, encoded, until they end, one fails, or nobody takes them any more.
fn tokenize_ahead<T: AsRef<str> + Sync>(
    model: &DenseModel,
    mut texts: impl Iterator<Item = T>,
    options: &PassOptions,
    ahead: &SyncSender<Result<Window, ModelError>>,
) {
    let mut first = 0;
    loop {
        let texts: Vec<T> = texts.by_ref().take(options.window.get()).collect();
        if texts.is_empty() {
            return;
        }
        let count = texts.len();
        let window = match model.tokenizer().encode_batch(&texts, options.tokenizer_threads) {
            Ok(rows) => Ok(Window { first, rows }),
            Err(error) => Err(ModelError::tokenizer(model.name(), error).at_row(|row| first + row)),
        };
        let failed = window.is_err();
        if ahead.send(window).is_err() || failed {
            return;
        }
        first += count;
    }
}
