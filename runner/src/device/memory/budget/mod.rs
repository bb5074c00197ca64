//! How many tokens a batch may have: less under pressure, more after a stretch of success.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crds::summary::MitigationKind;
use jiff::Timestamp;

mod types;

#[cfg(test)]
mod tests;

pub use self::types::{LearnedBudget, Limits, Mitigation};
use super::Memory;

/// Successful batches in a row before the budget grows.
const RECOVERY_BATCHES: u32 = 16;
/// Events that are recorded; further ones are only counted.
const MAX_EVENTS: usize = 100;

/// The budget that the workers of a pass on one device share.
#[derive(Debug)]
pub struct AdaptiveBudget {
    memory: Memory,
    limits: Limits,
    state: Mutex<State>,
    /// Notified whenever a batch ends, or an exclusive batch ends.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    tokens: usize,
    /// Memory in use when the pass began, in bytes: the model and everything else.
    baseline: u64,
    bytes_per_token: u64,
    /// Tokens of the batches in flight.
    in_flight: usize,
    /// Number of batches that run alone or wait for that; no other batch is admitted until they end.
    exclusive: usize,
    successes: u32,
    peak: u64,
    count: u64,
    events: Vec<Mitigation>,
}

impl AdaptiveBudget {
    /// A budget that begins at its largest size, or with a learned one.
    pub fn new(memory: Memory, limits: Limits, learned: Option<LearnedBudget>) -> Self {
        memory.reset_peak();
        // The next batches reuse the memory that the allocator kept of an earlier pass.
        let baseline = memory.used().saturating_sub(memory.idle());
        let begin =
            learned.unwrap_or(LearnedBudget { tokens: limits.largest, bytes_per_token: limits.bytes_per_token });
        let state = State {
            tokens: begin.tokens.clamp(1, limits.largest.max(1)),
            baseline,
            bytes_per_token: begin.bytes_per_token,
            in_flight: 0,
            exclusive: 0,
            successes: 0,
            peak: baseline,
            count: 0,
            events: Vec::new(),
        };
        Self { memory, limits, state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Tokens that a new batch may have.
    pub fn tokens(&self) -> usize {
        self.state().tokens
    }

    /// The present budget, for the next pass.
    pub fn learned(&self) -> LearnedBudget {
        let state = self.state();
        LearnedBudget { tokens: state.tokens, bytes_per_token: state.bytes_per_token }
    }

    /// Admits a batch of `tokens` tokens; the caller calls [`AdaptiveBudget::release`] when it ends. Above the soft limit the
    /// batch is admitted and the budget shrinks. Waits while another batch runs alone.
    ///
    /// # Errors
    /// If the batch would exceed the ceiling; the error has the figures.
    pub fn admit(&self, tokens: usize) -> Result<(), String> {
        let mut state = self.wait_while(self.state(), |state| state.exclusive > 0);
        let need = state.forecast(state.in_flight + tokens);
        self.check(need)?;
        state.in_flight += tokens;
        if need > self.memory.soft_limit() {
            self.shrink(&mut state, MitigationKind::Shrink);
        }
        Ok(())
    }

    /// Ends an admitted batch.
    pub fn release(&self, tokens: usize, succeeded: bool) {
        let mut state = self.state();
        state.in_flight = state.in_flight.saturating_sub(tokens);
        state.peak = state.peak.max(self.memory.peak());
        self.changed.notify_all();
        if !succeeded {
            return;
        }
        state.successes += 1;
        let larger = (state.tokens + self.limits.largest.div_ceil(4)).min(self.limits.largest);
        let fits = state.forecast(larger.saturating_mul(self.limits.workers)) <= self.memory.soft_limit();
        if state.successes >= RECOVERY_BATCHES && larger > state.tokens && fits {
            self.change(&mut state, MitigationKind::Recover, larger);
        }
    }

    /// Halves the budget after a batch was not admitted and is computed in halves.
    pub fn split(&self) {
        self.shrink(&mut self.state(), MitigationKind::Split);
    }

    /// Same as [`AdaptiveBudget::split`] after the device ran out of memory: when its other batches have ended, the
    /// allocator frees what it holds for later.
    pub fn split_and_trim(&self) {
        let mut state = self.begin_exclusive();
        self.memory.trim();
        self.shrink(&mut state, MitigationKind::Split);
        self.end_exclusive(state);
    }

    /// Computes a batch of `tokens` tokens while no other is in flight, after the allocator freed what it holds for later.
    ///
    /// # Errors
    /// If the batch would exceed the ceiling even then; the error has the figures.
    pub fn compute_alone<T, E>(
        &self,
        tokens: usize,
        compute: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<T, E>, String> {
        let mut state = self.begin_exclusive();
        self.memory.trim();
        state.baseline = state.baseline.min(self.memory.used());
        let need = state.forecast(tokens);
        if let Err(message) = self.check(need) {
            self.end_exclusive(state);
            return Err(message);
        }
        state.in_flight = tokens;
        drop(state);
        let computed = compute();
        self.release(tokens, computed.is_ok());
        self.end_exclusive(self.state());
        Ok(computed)
    }

    /// Begins a measurement: the use now is the baseline, which tokens do not account for.
    pub fn calibrate(&self) {
        self.memory.trim();
        self.memory.reset_peak();
        let mut state = self.state();
        state.baseline = self.memory.used();
        state.peak = state.peak.max(state.baseline);
    }

    /// Whether a batch of `tokens` tokens fits under the ceiling by the present estimate.
    pub fn may_fit(&self, tokens: usize) -> bool {
        self.state().forecast(tokens) <= self.memory.ceiling()
    }

    /// Ends a measurement after a batch of `tokens` tokens was computed alone since [`AdaptiveBudget::calibrate`]. A peak
    /// below the soft limit gives the cost of a token; otherwise the budget shrinks. Returns whether it was below.
    pub fn measured(&self, tokens: usize) -> bool {
        let peak = self.memory.peak();
        let mut state = self.state();
        state.peak = state.peak.max(peak);
        let fits = peak <= self.memory.soft_limit();
        if fits {
            let taken = peak.saturating_sub(state.baseline);
            // A batch that took nothing measurable says nothing about a token.
            if taken > 0 {
                state.bytes_per_token = taken.div_ceil(tokens.max(1) as u64);
            }
        } else {
            self.shrink(&mut state, MitigationKind::Shrink);
        }
        fits
    }

    /// Halves the budget.
    pub fn step_down(&self) {
        self.shrink(&mut self.state(), MitigationKind::Shrink);
    }

    /// The largest memory in use, in bytes.
    pub fn peak(&self) -> u64 {
        self.state().peak
    }

    /// The number of mitigations, and the first of them.
    pub fn mitigations(&self) -> (u64, Vec<Mitigation>) {
        let state = self.state();
        (state.count, state.events.clone())
    }

    fn check(&self, need: u64) -> Result<(), String> {
        let ceiling = self.memory.ceiling();
        if need > ceiling {
            return Err(format!(
                "a batch would raise the memory in use to {need} bytes, the memory ceiling is {ceiling} bytes"
            ));
        }
        Ok(())
    }

    fn shrink(&self, state: &mut State, kind: MitigationKind) {
        let smaller = (state.tokens / 2).max(1);
        if smaller < state.tokens || kind == MitigationKind::Split {
            self.change(state, kind, smaller);
        }
    }

    fn change(&self, state: &mut State, kind: MitigationKind, tokens: usize) {
        let used = self.memory.used();
        let event = Mitigation { kind, at: Timestamp::now(), tokens_before: state.tokens, tokens_after: tokens, used };
        tracing::debug!(?kind, from = state.tokens, to = tokens, used, "token budget changed");
        state.tokens = tokens;
        state.successes = 0;
        state.count += 1;
        state.peak = state.peak.max(used);
        if state.events.len() < MAX_EVENTS {
            state.events.push(event);
        }
    }

    /// Waits until no batch is in flight, and stops others from being admitted.
    fn begin_exclusive(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.exclusive += 1;
        self.wait_while(state, |state| state.in_flight > 0)
    }

    fn end_exclusive(&self, mut state: MutexGuard<'_, State>) {
        state.exclusive -= 1;
        self.changed.notify_all();
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        condition: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        self.changed.wait_while(state, |state| condition(state)).unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is valid after every line that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The memory in use with `tokens` tokens in flight, in bytes.
    fn forecast(&self, tokens: usize) -> u64 {
        self.baseline.saturating_add((tokens as u64).saturating_mul(self.bytes_per_token))
    }
}
