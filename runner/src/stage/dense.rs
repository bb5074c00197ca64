//! The dense pass: one model over texts, tokenized ahead of the workers, in token-budget batches, back in input order.
//!
//! One thread reads and tokenizes windows of texts; workers take the batches of the windows from one queue, each
//! computing alone, and none waits for the end of a window; the caller's thread puts the rows back in order and hands
//! whole windows on. Queues are short: memory does not grow with the number of texts.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Instant,
};

use crate::{
    batch::{self, Restored, Rows, TokenBudget},
    model::{DenseModel, ModelError, Side},
    text::Tokens,
};

/// Windows that are tokenized before the workers ask for them.
const WINDOWS_AHEAD: usize = 1;
/// Bytes of text after which a window is full, however few texts it has.
const WINDOW_BYTES: usize = 4 << 20;

/// How a pass works; nothing here changes a vector beyond rounding.
#[derive(Clone, Debug)]
pub struct PassOptions {
    /// Texts that are sorted by length together and held in memory at a time.
    pub window: NonZeroUsize,
    /// Tokens of one batch.
    pub batch: TokenBudget,
    /// Threads that tokenize a window.
    pub tokenizer_threads: NonZeroUsize,
    /// Threads that compute batches, each one at a time.
    pub workers: NonZeroUsize,
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

/// Why a pass ended early. `E` is the error of the source and of the sink.
#[derive(Debug, thiserror::Error)]
pub enum PassError<E> {
    /// The model failed; a row in the error is the row among all texts of the pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The texts cannot be read.
    #[error("the texts cannot be read")]
    Source(#[source] E),
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
/// If the source, the model or the sink fails, or the pass is cancelled. Windows that the sink got before that are
/// whole.
pub fn run<T, E>(
    model: &DenseModel,
    texts: impl Iterator<Item = Result<T, E>> + Send,
    options: &PassOptions,
    mut progress: impl FnMut(Progress),
    mut sink: impl FnMut(usize, Rows) -> Result<(), E>,
) -> Result<PassRecord, PassError<E>>
where
    T: AsRef<str> + Send + Sync,
    E: Send,
{
    let started = Instant::now();
    let mut done = Progress::default();
    let (mut truncated_chunks, mut tokens_lost, mut batches) = (0, 0, 0);
    thread::scope(|scope| {
        let (messages, inbox) = channel();
        let (jobs, queue) = sync_channel::<Job>(options.workers.get());
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..options.workers.get() {
            let (queue, messages) = (Arc::clone(&queue), messages.clone());
            scope.spawn(move || work(model, &queue, &messages));
        }
        // Only workers hold the queue: when they are gone, nobody waits to fill it.
        drop(queue);
        scope.spawn(move || {
            let (ahead, windows) = sync_channel(WINDOWS_AHEAD);
            thread::scope(|scope| {
                scope.spawn(move || tokenize(model, texts, options, &ahead));
                dispatch(windows, options.batch, &jobs, &messages);
            });
        });

        let mut open: VecDeque<(Arc<Window>, Restored)> = VecDeque::new();
        for message in inbox {
            match message {
                Message::Opened(window) => {
                    truncated_chunks += window.rows.iter().filter(|tokens| tokens.lost > 0).count() as u64;
                    tokens_lost += window.rows.iter().map(|tokens| tokens.lost as u64).sum::<u64>();
                    let restored = Restored::new(window.rows.len(), model.dimensions());
                    open.push_back((window, restored));
                }
                Message::Computed(job, rows) => {
                    if options.cancelled.load(Ordering::Relaxed) {
                        return Err(PassError::Cancelled);
                    }
                    let rows = rows?;
                    let (_, restored) = open
                        .iter_mut()
                        .find(|(window, _)| window.first == job.window.first)
                        .expect("a window is opened before its batches are computed");
                    restored.put(&job.rows, &rows);
                    batches += 1;
                    done.chunks += job.rows.len() as u64;
                    done.tokens += job.tokens().map(|tokens| tokens.ids.len() as u64).sum::<u64>();
                    progress(done);
                }
                Message::Failed(error) => return Err(error),
            }
            while open.front().is_some_and(|(_, restored)| restored.is_whole()) {
                if let Some((window, restored)) = open.pop_front() {
                    sink(window.first, restored.into_rows()).map_err(PassError::Sink)?;
                }
            }
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

/// A batch of a window: indices of its rows.
struct Job {
    window: Arc<Window>,
    rows: Vec<usize>,
}

impl Job {
    fn tokens(&self) -> impl Iterator<Item = &Tokens> {
        self.rows.iter().map(|&row| &self.window.rows[row])
    }
}

/// What the caller's thread hears.
enum Message<E> {
    /// A window, before any of its batches.
    Opened(Arc<Window>),
    /// A batch, computed or failed.
    Computed(Job, Result<Rows, ModelError>),
    /// The end, before its time.
    Failed(PassError<E>),
}

/// Computes batches until there are none, or nobody wants them.
fn work<E>(model: &DenseModel, queue: &Mutex<Receiver<Job>>, messages: &Sender<Message<E>>) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let rows = model.embed(&job.tokens().collect::<Vec<_>>());
        let rows = rows.map_err(|error| error.at_row(|row| job.window.first + job.rows[row]));
        if messages.send(Message::Computed(job, rows)).is_err() {
            return;
        }
    }
}

/// Cuts windows into batches and queues them. When it ends early, so does the thread that waits to send a window.
fn dispatch<E>(
    windows: Receiver<Result<Window, PassError<E>>>,
    budget: TokenBudget,
    jobs: &SyncSender<Job>,
    messages: &Sender<Message<E>>,
) {
    for window in windows {
        let window = match window {
            Ok(window) => Arc::new(window),
            Err(error) => {
                // What was queued before is not needed any more, and neither is an answer.
                let _ = messages.send(Message::Failed(error));
                return;
            }
        };
        if messages.send(Message::Opened(Arc::clone(&window))).is_err() {
            return;
        }
        let lengths: Vec<usize> = window.rows.iter().map(|tokens| tokens.ids.len()).collect();
        for rows in batch::batches(&lengths, budget) {
            if jobs.send(Job { window: Arc::clone(&window), rows }).is_err() {
                return;
            }
        }
    }
}

/// Sends the texts on, encoded, until they end, one fails, or nobody takes them any more.
fn tokenize<T: AsRef<str> + Send + Sync, E>(
    model: &DenseModel,
    mut texts: impl Iterator<Item = Result<T, E>>,
    options: &PassOptions,
    ahead: &SyncSender<Result<Window, PassError<E>>>,
) {
    let mut first = 0;
    loop {
        let window = match read(&mut texts, options.window.get()) {
            Ok(texts) if texts.is_empty() => return,
            Ok(texts) => model
                .encode_batch(&texts, Side::Document, options.tokenizer_threads)
                .map(|rows| Window { first, rows })
                .map_err(|error| PassError::Model(error.at_row(|row| first + row))),
            Err(error) => Err(PassError::Source(error)),
        };
        let count = window.as_ref().map_or(0, |window| window.rows.len());
        if ahead.send(window).is_err() || count == 0 {
            return;
        }
        first += count;
    }
}

/// The texts of the next window; none when there are no more.
fn read<T: AsRef<str>, E>(texts: &mut impl Iterator<Item = Result<T, E>>, most: usize) -> Result<Vec<T>, E> {
    let mut window = Vec::new();
    let mut bytes = 0;
    while window.len() < most && bytes < WINDOW_BYTES {
        let Some(text) = texts.next().transpose()? else { break };
        bytes += text.as_ref().len();
        window.push(text);
    }
    Ok(window)
}
