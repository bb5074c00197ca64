//! A worker of a pass: takes batches from the queue and computes them; in halves when memory runs out.

use std::{
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, Sender},
    },
    time::Instant,
};

use super::{
    RowModel,
    batching::WindowRows,
    cost::RowCost,
    job::{Job, Message},
};
use crate::{device::memory::AdaptiveBudget, model::ModelError, tokenizer::Tokens};

/// Computes batches until the queue is closed or the caller has left. `replica` is the index of the model's replica.
pub(super) fn work<M: RowModel<I>, I, E>(
    replica: usize,
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
        if messages.send(Message::Computed { replica, job, rows, batch_seconds }).is_err() {
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
