//! A model over many items: tokenized ahead of the workers, in token-budget batches, back in input order.
//!
//! One thread reads and tokenizes windows of items; workers take the batches of the windows from one queue, each
//! computing alone, and none waits for the end of a window; the caller's thread puts the rows back in order and hands
//! whole windows on. Queues are short: memory does not grow with the number of items. The model may be there several
//! times, once per device; every copy has workers and a budget of its own. When memory runs out, the batch is computed
//! in halves and the next ones of that device are smaller.

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

mod probe;
mod record;
mod weight;

use self::probe::probe_all;
pub use self::record::{PassRecord, Progress, ReplicaRecord};
use self::weight::Weight;
use crate::{
    batch::{self, Places, Restored, TokenBudget},
    memory::{AdaptiveBudget, Learnt, Limits, Memory},
    model::ModelError,
    text::Tokens,
};

/// Windows that are tokenized before the workers ask for them.
const WINDOWS_AHEAD: usize = 1;
/// The first window is so many times smaller than a whole one, and each next one twice as large: workers have nothing to
/// do before it is tokenized.
const FIRST_WINDOW_DIVISOR: usize = 8;
/// Bytes of text after which a window is full, however few items it has.
const WINDOW_BYTES: usize = 4 << 20;

/// A model that computes rows from items of type `I`.
pub trait RowModel<I>: Sync {
    /// The rows of a batch or a window.
    type Rows: Places;

    /// The name that the model was loaded under.
    fn name(&self) -> &str;

    /// Bytes that a token takes while its batch is computed, about.
    fn bytes_per_token(&self) -> u64;

    /// Bytes that a row takes beside its tokens while its batch is computed, about.
    fn bytes_per_row(&self) -> u64 {
        0
    }

    /// Tokens of the longest sequence.
    fn longest(&self) -> usize;

    /// The bytes of an item's text.
    fn size(item: &I) -> usize;

    /// The tokens of items in their order, with up to `threads` threads.
    ///
    /// # Errors
    /// If an item cannot be encoded; the error names its row.
    fn encode_items(&self, items: &[I], threads: NonZeroUsize) -> Result<Vec<Tokens>, ModelError>;

    /// One batch: row N out is row N in.
    ///
    /// # Errors
    /// If the device fails or a row is not finite; the error names its row.
    fn compute(&self, rows: &[&Tokens]) -> Result<Self::Rows, ModelError>;

    /// Rows that are not computed yet.
    fn empty(&self, count: usize) -> Self::Rows;

    /// What stands for a row that cannot be computed, where the pass goes on without it.
    fn stand_in(&self, _: &ModelError) -> Option<Self::Rows> {
        None
    }
}

/// A model on a device. Those of a pass differ in the device alone.
#[derive(Clone, Debug)]
pub struct Replica<'a, M> {
    /// The model.
    pub model: &'a M,
    /// What it has to stay under.
    pub memory: Memory,
    /// What its last pass has come to, which then is not measured again.
    pub learnt: Option<Learnt>,
}

impl<'a, M> Replica<'a, M> {
    /// A model that nothing is known of yet.
    pub fn new(model: &'a M, memory: Memory) -> Self {
        Self { model, memory, learnt: None }
    }
}

/// How a pass works; nothing here changes a row beyond rounding.
#[derive(Clone, Debug)]
pub struct PassOptions {
    /// Items that are sorted by length together and held in memory at a time; the first windows of a pass have fewer.
    pub window: NonZeroUsize,
    /// Tokens of one batch, when memory is no matter.
    pub batch: TokenBudget,
    /// Threads that tokenize a window.
    pub tokenizer_threads: NonZeroUsize,
    /// Threads per replica that compute batches, each one at a time.
    pub workers: NonZeroUsize,
    /// Whether the pass begins with batches of the longest sequences, to measure what a token takes.
    pub probe: bool,
    /// Stops the pass between two batches once it is true.
    pub cancelled: Arc<AtomicBool>,
}

/// Why a pass ended early. `E` is the error of the source and of the sink.
#[derive(Debug, thiserror::Error)]
pub enum PassError<E> {
    /// The model failed; a row in the error is the row among all items of the pass.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The items cannot be read.
    #[error("the texts cannot be read")]
    Source(#[source] E),
    /// The sink did not take the rows.
    #[error("the vectors cannot be taken")]
    Sink(#[source] E),
    /// The pass was told to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Runs the `replicas` of a model over `items`. The `sink` gets the rows window by window in input order, with the
/// number of each window's first item; `progress` is called after every batch.
///
/// # Errors
/// If the source, the model or the sink fails, or the pass is cancelled. Windows that the sink got before that are
/// whole.
///
/// # Panics
/// If there is no replica.
pub fn run<M, I, E>(
    replicas: &[Replica<'_, M>],
    items: impl Iterator<Item = Result<I, E>> + Send,
    options: &PassOptions,
    mut progress: impl FnMut(Progress),
    mut sink: impl FnMut(usize, M::Rows) -> Result<(), E>,
) -> Result<PassRecord, PassError<E>>
where
    M: RowModel<I>,
    I: Send + Sync,
    E: Send,
{
    let started = Instant::now();
    let first = replicas.first().expect("a pass has a model");
    let (model, weight) = (first.model, Weight::of(first.model, &first.memory));
    let budgets: Vec<AdaptiveBudget> = replicas.iter().map(|replica| budget(replica, options)).collect();
    if options.probe {
        probe_all(replicas, &budgets, weight, &options.cancelled)?;
    }
    let mut record = PassRecord { replicas: vec![ReplicaRecord::default(); replicas.len()], ..PassRecord::default() };
    thread::scope(|scope| {
        let (messages, inbox) = channel();
        let (jobs, queue) = sync_channel::<Job>(options.workers.get() * replicas.len());
        let queue = Arc::new(Mutex::new(queue));
        let (budgets, threads) = (&budgets, options.workers.get() * replicas.len());
        for (index, (replica, budget)) in replicas.iter().zip(budgets).enumerate() {
            for _ in 0..options.workers.get() {
                let (queue, messages) = (Arc::clone(&queue), messages.clone());
                scope.spawn(move || work(index, replica.model, weight, &queue, budget, &messages));
            }
        }
        // Only workers hold the queue: when they are gone, nobody waits to fill it.
        drop(queue);
        scope.spawn(move || {
            let (ahead, windows) = sync_channel(WINDOWS_AHEAD);
            thread::scope(|scope| {
                scope.spawn(move || tokenize(model, items, options, &ahead));
                dispatch(windows, budgets, weight, threads, &jobs, &messages);
            });
        });

        let mut open: VecDeque<(Arc<Window>, Restored<M::Rows>)> = VecDeque::new();
        for message in inbox {
            match message {
                Message::Opened(window) => {
                    record.count(&window.rows);
                    let restored = Restored::new(model.empty(window.rows.len()));
                    open.push_back((window, restored));
                }
                Message::Computed { by, job, rows, batch_seconds } => {
                    if options.cancelled.load(Ordering::Relaxed) {
                        return Err(PassError::Cancelled);
                    }
                    let rows = rows?;
                    let (_, restored) = open
                        .iter_mut()
                        .find(|(window, _)| window.first == job.window.first)
                        .expect("a window is opened before its batches are computed");
                    restored.put(&job.rows, rows);
                    record.batches += 1;
                    record.items += job.rows.len() as u64;
                    record.replicas[by].items += job.rows.len() as u64;
                    record.tokens += job.tokens().map(|tokens| tokens.ids.len() as u64).sum::<u64>();
                    progress(Progress { items: record.items, tokens: record.tokens, batch_seconds });
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
    for (budget, replica) in budgets.iter().zip(&mut record.replicas) {
        let (count, events) = budget.mitigations();
        record.mitigations += count;
        record.mitigation_events.extend(events);
        (replica.peak_bytes, replica.learnt) = (budget.peak(), budget.learnt());
        record.peak_bytes = record.peak_bytes.max(replica.peak_bytes);
    }
    record.seconds = started.elapsed().as_secs_f64();
    Ok(record)
}

/// Encoded items that are batched together.
struct Window {
    /// The number of the first among all items of the pass.
    first: usize,
    rows: Vec<Tokens>,
    /// Whether none follows.
    last: bool,
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

/// What the caller's thread hears. `R` are the rows, `E` is the error of the source.
enum Message<R, E> {
    /// A window, before any of its batches.
    Opened(Arc<Window>),
    /// A batch, computed or failed by a replica, and how long that took in seconds.
    Computed { by: usize, job: Job, rows: Result<R, ModelError>, batch_seconds: f64 },
    /// The end, before its time.
    Failed(PassError<E>),
}

fn budget<M: RowModel<I>, I>(replica: &Replica<'_, M>, options: &PassOptions) -> AdaptiveBudget {
    let limits = Limits {
        largest: options.batch.0,
        bytes_per_token: replica.model.bytes_per_token(),
        workers: options.workers.get(),
    };
    AdaptiveBudget::new(replica.memory.clone(), limits, replica.learnt)
}

/// Computes batches until there are none, or nobody wants them.
fn work<M: RowModel<I>, I, E>(
    by: usize,
    model: &M,
    weight: Weight,
    queue: &Mutex<Receiver<Job>>,
    budget: &AdaptiveBudget,
    messages: &Sender<Message<M::Rows, E>>,
) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let started = Instant::now();
        let rows = compute(model, weight, &job.tokens().collect::<Vec<_>>(), budget);
        let rows = rows.map_err(|error| error.at_row(|row| job.window.first + job.rows[row]));
        let batch_seconds = started.elapsed().as_secs_f64();
        if messages.send(Message::Computed { by, job, rows, batch_seconds }).is_err() {
            return;
        }
    }
}

/// One batch; where memory runs out, or where a row can be stood in for, in halves.
fn compute<M: RowModel<I>, I>(
    model: &M,
    weight: Weight,
    rows: &[&Tokens],
    budget: &AdaptiveBudget,
) -> Result<M::Rows, ModelError> {
    let tokens = weight.rows(rows.iter().copied());
    let (error, admitted) = match budget.admit(tokens) {
        Ok(()) => {
            let computed = model.compute(rows);
            budget.release(tokens, computed.is_ok());
            match computed {
                Ok(computed) => return Ok(computed),
                Err(error) => (error, true),
            }
        }
        Err(message) => (ModelError::over_ceiling(model.name(), message), false),
    };
    let out_of_memory = matches!(error, ModelError::OutOfMemory { .. });
    if rows.len() < 2 {
        let error = if out_of_memory {
            // What it lacks may be what the other batches have.
            match budget.compute_alone(tokens, || model.compute(rows)) {
                Ok(Ok(computed)) => return Ok(computed),
                Ok(Err(error)) => error,
                Err(message) => ModelError::over_ceiling(model.name(), message),
            }
            .of_one_row()
        } else {
            error
        };
        return model.stand_in(&error).ok_or(error);
    }
    match (out_of_memory, admitted) {
        (true, true) => budget.split_and_trim(),
        (true, false) => budget.split(),
        (false, _) if model.stand_in(&error).is_none() => return Err(error),
        (false, _) => {}
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    let mut whole = model.empty(rows.len());
    let indices: Vec<usize> = (0..rows.len()).collect();
    whole.put(&indices[..first.len()], compute(model, weight, first, budget)?);
    let second = compute(model, weight, second, budget).map_err(|error| error.at_row(|row| row + first.len()))?;
    whole.put(&indices[first.len()..], second);
    Ok(whole)
}

/// Cuts windows into batches and queues them. When it ends early, so does the thread that waits to send a window.
fn dispatch<R, E>(
    windows: Receiver<Result<Window, PassError<E>>>,
    budgets: &[AdaptiveBudget],
    weight: Weight,
    workers: usize,
    jobs: &SyncSender<Job>,
    messages: &Sender<Message<R, E>>,
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
        let weights: Vec<usize> = window.rows.iter().map(|tokens| weight.row(tokens)).collect();
        // Whichever replica takes a batch has room for it.
        let budget = TokenBudget(budgets.iter().map(AdaptiveBudget::tokens).min().unwrap_or(1));
        let batches =
            if window.last { batch::last_batches(&weights, budget, workers) } else { batch::batches(&weights, budget) };
        for rows in batches {
            if jobs.send(Job { window: Arc::clone(&window), rows }).is_err() {
                return;
            }
        }
    }
}

/// Sends the items on, encoded, until they end, one fails, or nobody takes them any more.
fn tokenize<M: RowModel<I>, I: Send + Sync, E>(
    model: &M,
    items: impl Iterator<Item = Result<I, E>>,
    options: &PassOptions,
    ahead: &SyncSender<Result<Window, PassError<E>>>,
) {
    let mut items = items.peekable();
    let (mut first, whole) = (0, options.window.get());
    let mut most = whole.div_ceil(FIRST_WINDOW_DIVISOR);
    loop {
        let window = read::<M, I, E>(&mut items, most);
        most = (2 * most).min(whole);
        let window = match window {
            Ok(window) if window.is_empty() => return,
            Ok(window) => model
                .encode_items(&window, options.tokenizer_threads)
                .map(|rows| Window { first, rows, last: items.peek().is_none() })
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

/// The items of the next window; none when there are no more.
fn read<M: RowModel<I>, I, E>(items: &mut impl Iterator<Item = Result<I, E>>, most: usize) -> Result<Vec<I>, E> {
    let mut window = Vec::new();
    let mut bytes = 0;
    while window.len() < most && bytes < WINDOW_BYTES {
        let Some(item) = items.next().transpose()? else { break };
        bytes += M::size(&item);
        window.push(item);
    }
    Ok(window)
}
