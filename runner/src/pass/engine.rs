//! The engine of a pass: items are tokenized ahead of the workers and computed in token-budget batches; rows return in
//! input order.
//!
//! One thread reads and tokenizes windows of items, and another cuts them into batches ([`windows`](super::windows)).
//! Workers take the batches of all windows from one queue and never wait for the end of a window
//! ([`worker`](super::worker)). The caller's thread restores the order of the rows and hands whole windows on. Queues
//! are short, so memory does not grow with the number of items. The model may be loaded once per device: every replica
//! has workers and a budget of its own. When memory runs out, the batch is computed in halves and the next batches of
//! that device are smaller.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::Ordering,
        mpsc::{channel, sync_channel},
    },
    thread,
    time::Instant,
};

use super::{
    PassError, PassOptions, PassProgress, PassRecord, Replica, ReplicaRecord, RowModel,
    batching::RestoredRows,
    cost::RowCost,
    job::{Job, Message, Window},
    probe::probe_all,
    windows::{dispatch, tokenize},
    worker::work,
};
use crate::device::memory::{AdaptiveBudget, Limits};

/// Windows that are tokenized ahead of the workers.
const WINDOWS_AHEAD: usize = 1;

/// Runs the `replicas` of a model over `items`. The `sink` gets the rows window by window in input order, with the
/// number of each window's first item, counted from 0; `progress` is called after every batch.
///
/// # Errors
/// If the source, the model or the sink fails, or the pass is cancelled. The sink only gets whole windows, even then.
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
        let (budgets, workers) = (&budgets, options.workers.get() * replicas.len());
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
                dispatch(windows, budgets, cost, workers, &jobs, &messages);
            });
        });

        let mut open_windows: VecDeque<(Arc<Window>, RestoredRows<M::Rows>)> = VecDeque::new();
        for message in inbox {
            match message {
                Message::Opened(window) => {
                    record.count(&window.rows);
                    let restored = RestoredRows::new(model.empty(window.rows.len()));
                    open_windows.push_back((window, restored));
                }
                Message::Computed { replica, job, rows, batch_seconds } => {
                    if options.cancelled.load(Ordering::Relaxed) {
                        return Err(PassError::Cancelled);
                    }
                    let rows = rows?;
                    let (_, restored) = open_windows
                        .iter_mut()
                        .find(|(window, _)| window.first == job.window.first)
                        .expect("a window is opened before its batches are computed");
                    restored.put(&job.rows, rows);
                    record.batches += 1;
                    record.items += job.rows.len() as u64;
                    record.replicas[replica].items += job.rows.len() as u64;
                    record.tokens += job.tokens().map(|tokens| tokens.ids.len() as u64).sum::<u64>();
                    progress(PassProgress { items: record.items, tokens: record.tokens, batch_seconds });
                }
                Message::Failed(error) => return Err(error),
            }
            while open_windows.front().is_some_and(|(_, restored)| restored.is_complete()) {
                if let Some((window, restored)) = open_windows.pop_front() {
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

/// The token budget of a replica, with the limits of its memory.
fn budget<M: RowModel<I>, I>(replica: &Replica<'_, M>, options: &PassOptions) -> AdaptiveBudget {
    let limits = Limits {
        largest: options.batch.0,
        bytes_per_token: replica.model.bytes_per_token(),
        workers: options.workers.get(),
    };
    AdaptiveBudget::new(replica.memory.clone(), limits, replica.learned)
}
