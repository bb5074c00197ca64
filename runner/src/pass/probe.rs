//! Measures the memory that a token takes on a device, with batches of artificial texts at the beginning of a pass.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use super::{Replica, RowModel, cost::RowCost};
use crate::{device::memory::AdaptiveBudget, model::ModelError, tokenizer::Tokens};

/// Tokens of the batch that is computed before memory is measured, so that the one-time allocations of the first batch
/// are not counted as the memory of tokens.
const WARM_UP_TOKENS: usize = 8;
/// The smallest budget that is measured, in tokens.
const MIN_PROBED_TOKENS: usize = 16;

/// Probes all devices that have no learned budget, at the same time.
///
/// # Errors
/// If a device is lost.
pub(super) fn probe_all<M: RowModel<I>, I>(
    replicas: &[Replica<'_, M>],
    budgets: &[AdaptiveBudget],
    cost: RowCost,
    cancelled: &AtomicBool,
) -> Result<(), ModelError> {
    thread::scope(|scope| {
        let probes: Vec<_> = replicas
            .iter()
            .zip(budgets)
            .filter(|(replica, _)| replica.learned.is_none())
            .map(|(replica, budget)| scope.spawn(move || probe(replica.model, cost, budget, cancelled)))
            .collect();
        probes.into_iter().try_for_each(|probe| probe.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Computes batches of the longest sequences, from the full budget downwards until one stays under the soft limit. A
/// budget that the device cannot hold thus shows before the first text, and the memory of a token is measured. If no
/// batch fits, the pass still runs: its texts may be shorter.
fn probe<M: RowModel<I>, I>(
    model: &M,
    cost: RowCost,
    budget: &AdaptiveBudget,
    cancelled: &AtomicBool,
) -> Result<(), ModelError> {
    let batch = |length: usize, rows: usize| -> Result<bool, ModelError> {
        // Every model has a row of its embedding for the id 0.
        let row = Tokens { ids: vec![0; length], ..Tokens::default() };
        match model.compute(&vec![&row; rows]) {
            Err(error @ ModelError::DeviceLost { .. }) => Err(error),
            Err(ModelError::OutOfMemory { .. }) => Ok(false),
            // The output is not used, so another error of an artificial text does not matter.
            Ok(_) | Err(_) => Ok(true),
        }
    };
    let longest = model.longest().max(1);
    batch(longest.min(WARM_UP_TOKENS), 1)?;
    while !cancelled.load(Ordering::Relaxed) {
        let budget_tokens = budget.tokens();
        let length = budget_tokens.saturating_sub(cost.overhead).clamp(1, longest);
        let rows = (budget_tokens / (length + cost.overhead)).max(1);
        let tokens = (length + cost.overhead) * rows;
        budget.calibrate();
        if !budget.may_fit(tokens) || !batch(length, rows)? {
            budget.step_down();
        } else if budget.measured(tokens) {
            tracing::debug!(
                model = model.name(),
                tokens,
                bytes_per_token = budget.learned().bytes_per_token,
                "measured the memory of a token"
            );
            break;
        }
        if budget_tokens <= MIN_PROBED_TOKENS {
            break;
        }
    }
    budget.calibrate();
    Ok(())
}
