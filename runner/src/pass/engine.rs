//! The engine of a pass: items are tokenized ahead of the workers and computed in token-budget batches; rows return in
//! input order.
//!
//! One thread reads and tokenizes windows of items. Workers take the batches of all windows from one queue and never wait
//! for the end of a window. The caller's thread restores the order of the rows and hands whole windows on. Queues are
//! short, so memory does not grow with the number of items. The model may be loaded once per device: every replica has
//! workers and a budget of its own. When memory runs out, the batch is computed in halves and the next batches of that
//! device are smaller.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread,
    time::Instant,
};

use super::{
    PassError, PassOptions, PassProgress, PassRecord, Replica, ReplicaRecord, RowModel,
    batching::{self, Places, Restored, TokenBudget},
    cost::RowCost,
    probe::probe_all,
};
use crate::{
    device::memory::{AdaptiveBudget, Limits},
    model::ModelError,
    tokenizer::Tokens,
};

/// Windows that are tokenized ahead of the workers.
const WINDOWS_AHEAD: usize = 1;
/// The first window is this many times smaller than a whole one, and each next one twice as large, because workers are idle
/// until the first window is tokenized.
const FIRST_WINDOW_DIVISOR: usize = 8;
/// Bytes of text after which a window is full, whatever the number of its items.
const WINDOW_BYTES: usize = 4 << 20;

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
    mut progress: impl FnMut(PassProgress),
    mut sink: impl FnMut(usize, M::Rows) -> Result<(), E>,
) -> Result<PassRecord, PassError<E>>
where
    M: RowModel<I>,
    I: Send + Sync,
    E: Send,
{
    let started = Instant::now();
    let first = replicas.first().expect("a pass has a model");
    let (model, cost) = (first.model, RowCost::of(first.model, &first.memory));
    let budgets: Vec<AdaptiveBudget> = replicas.iter().map(|replica| budget(replica, options)).collect();
    if options.probe {
        probe_all(replicas, &budgets, cost, &options.cancelled)?;
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
                scope.spawn(move || work(index, replica.model, cost, &queue, budget, &messages));
            }
        }
        // Only workers hold the queue: when they end, the dispatcher stops filling it.
        drop(queue);
        scope.spawn(move || {
            let (ahead, windows) = sync_channel(WINDOWS_AHEAD);
            thread::scope(|scope| {
                scope.spawn(move || tokenize(model, items, options, &ahead));
                dispatch(windows, budgets, cost, threads, &jobs, &messages);
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
                    progress(PassProgress { items: record.items, tokens: record.tokens, batch_seconds });
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
        (replica.peak_bytes, replica.learned) = (budget.peak(), budget.learned());
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
    /// Whether it is the last window.
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

/// A message to the caller's thread. `R` are the rows, `E` is the error of the source.
enum Message<R, E> {
    /// A window, before any of its batches.
    Opened(Arc<Window>),
    /// A batch that a replica computed or failed to compute, and the time it took in seconds.
    Computed { by: usize, job: Job, rows: Result<R, ModelError>, batch_seconds: f64 },
    /// The pass ends early.
    Failed(PassError<E>),
}

fn budget<M: RowModel<I>, I>(replica: &Replica<'_, M>, options: &PassOptions) -> AdaptiveBudget {
    let limits = Limits {
        largest: options.batch.0,
        bytes_per_token: replica.model.bytes_per_token(),
        workers: options.workers.get(),
    };
    AdaptiveBudget::new(replica.memory.clone(), limits, replica.learned)
}

/// Computes batches until the queue is closed or the caller has left.
fn work<M: RowModel<I>, I, E>(
    by: usize,
    model: &M,
    cost: RowCost,
    queue: &Mutex<Receiver<Job>>,
    budget: &AdaptiveBudget,
    messages: &Sender<Message<M::Rows, E>>,
) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        let started = Instant::now();
        let rows = compute(model, cost, &job.tokens().collect::<Vec<_>>(), budget);
        let rows = rows.map_err(|error| error.at_row(|row| job.window.first + job.rows[row]));
        let batch_seconds = started.elapsed().as_secs_f64();
        if messages.send(Message::Computed { by, job, rows, batch_seconds }).is_err() {
            return;
        }
    }
}

/// Computes one batch; in halves if memory runs out, or if a row that fails can be replaced.
fn compute<M: RowModel<I>, I>(
    model: &M,
    cost: RowCost,
    rows: &[&Tokens],
    budget: &AdaptiveBudget,
) -> Result<M::Rows, ModelError> {
    let tokens = cost.of_rows(rows.iter().copied());
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
            // The other batches may hold the memory that it needs.
            match budget.compute_alone(tokens, || model.compute(rows)) {
                Ok(Ok(computed)) => return Ok(computed),
                Ok(Err(error)) => error,
                Err(message) => ModelError::over_ceiling(model.name(), message),
            }
            .of_one_row()
        } else {
            error
        };
        return model.placeholder(&error).ok_or(error);
    }
    match (out_of_memory, admitted) {
        (true, true) => budget.split_and_trim(),
        (true, false) => budget.split(),
        (false, _) if model.placeholder(&error).is_none() => return Err(error),
        (false, _) => {}
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    let mut whole = model.empty(rows.len());
    let indices: Vec<usize> = (0..rows.len()).collect();
    whole.put(&indices[..first.len()], compute(model, cost, first, budget)?);
    let second = compute(model, cost, second, budget).map_err(|error| error.at_row(|row| row + first.len()))?;
    whole.put(&indices[first.len()..], second);
    Ok(whole)
}

/// Cuts windows into batches and queues them. When it ends early, the thread that waits to send a window ends too.
fn dispatch<R, E>(
    windows: Receiver<Result<Window, PassError<E>>>,
    budgets: &[AdaptiveBudget],
    cost: RowCost,
    workers: usize,
    jobs: &SyncSender<Job>,
    messages: &Sender<Message<R, E>>,
) {
    for window in windows {
        let window = match window {
            Ok(window) => Arc::new(window),
            Err(error) => {
                // The caller may have left, and the queued batches are not needed any more.
                let _ = messages.send(Message::Failed(error));
                return;
            }
        };
        if messages.send(Message::Opened(Arc::clone(&window))).is_err() {
            return;
        }
        let costs: Vec<usize> = window.rows.iter().map(|tokens| cost.of_row(tokens)).collect();
        // Any replica may take the batch, so the smallest budget counts.
        let budget = TokenBudget(budgets.iter().map(AdaptiveBudget::tokens).min().unwrap_or(1));
        let batches = if window.last {
            batching::last_batches(&costs, budget, workers)
        } else {
            batching::batches(&costs, budget)
        };
        for rows in batches {
            if jobs.send(Job { window: Arc::clone(&window), rows }).is_err() {
                return;
            }
        }
    }
}

/// Sends tokenized windows until the items end, one fails, or the receiver has left.
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
        let window = read_window::<M, I, E>(&mut items, most);
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

/// The items of the next window; empty at the end.
fn read_window<M: RowModel<I>, I, E>(items: &mut impl Iterator<Item = Result<I, E>>, most: usize) -> Result<Vec<I>, E> {
    let mut window = Vec::new();
    let mut bytes = 0;
    while window.len() < most && bytes < WINDOW_BYTES {
        let Some(item) = items.next().transpose()? else { break };
        bytes += M::size(&item);
        window.push(item);
    }
    Ok(window)
}
