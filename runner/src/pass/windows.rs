//! The windows of a pass: read and tokenized ahead of the workers, then cut into batches.

use std::sync::{
    Arc,
    mpsc::{Receiver, Sender, SyncSender},
};

use super::{
    PassError, PassOptions, RowModel,
    batching::{self, TokenBudget},
    cost::RowCost,
    job::{Job, Message, Window},
};
use crate::device::memory::AdaptiveBudget;

/// The first window is this many times smaller than a full one, and each next one twice as large, because workers are
/// idle until the first window is tokenized.
const FIRST_WINDOW_DIVISOR: usize = 8;
/// Bytes of text after which a window is full, whatever the number of its items.
const WINDOW_BYTES: usize = 4 << 20;

/// Cuts windows into batches and queues them until the windows end, one fails, or the workers have left. It owns the
/// receiver: if it ends early, the thread that waits to send a window ends too.
pub(super) fn dispatch<R, E>(
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
        // Any replica may take the batch, so the smallest budget applies.
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
pub(super) fn tokenize<M: RowModel<I>, I: Send + Sync, E>(
    model: &M,
    items: impl Iterator<Item = Result<I, E>>,
    options: &PassOptions,
    ahead: &SyncSender<Result<Window, PassError<E>>>,
) {
    let mut items = items.peekable();
    let (mut first, full_size) = (0, options.window.get());
    let mut size = full_size.div_ceil(FIRST_WINDOW_DIVISOR);
    loop {
        let window = read_window::<M, I, E>(&mut items, size);
        size = (2 * size).min(full_size);
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

/// The items of the next window, at most `size`; empty at the end.
fn read_window<M: RowModel<I>, I, E>(items: &mut impl Iterator<Item = Result<I, E>>, size: usize) -> Result<Vec<I>, E> {
    let mut window = Vec::new();
    let mut bytes = 0;
    while window.len() < size && bytes < WINDOW_BYTES {
        let Some(item) = items.next().transpose()? else { break };
        bytes += M::size(&item);
        window.push(item);
    }
    Ok(window)
}
