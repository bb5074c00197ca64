//! How many tokens a batch may have: less under pressure, more after a stretch of success.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crds::summary::MitigationKind;
use jiff::Timestamp;

use super::Memory;

/// Batches in a row that succeed before the budget grows again.
const STRETCH: u32 = 16;
/// Events that are kept; the others are only counted.
const MOST_EVENTS: usize = 100;

/// Between which sizes a budget moves, and what a token costs.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens of a batch when nothing is in the way.
    pub largest: usize,
    /// Bytes that a token of a batch takes while the batch is computed.
    pub bytes_per_token: u64,
}

/// Something that was done about pressure on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mitigation {
    /// What was done.
    pub kind: MitigationKind,
    /// When.
    pub at: Timestamp,
    /// Tokens of a batch before.
    pub tokens_before: usize,
    /// Tokens of a batch after.
    pub tokens_after: usize,
    /// Memory in use, in bytes.
    pub used: u64,
}

/// The budget that the workers of a pass share.
#[derive(Debug)]
pub struct AdaptiveBudget {
    memory: Memory,
    limits: Limits,
    /// Memory in use when the pass began, in bytes: the model and all else.
    baseline: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: usize,
    /// Tokens of the batches that are being computed.
    at_work: usize,
    successes: u32,
    peak: u64,
    count: u64,
    events: Vec<Mitigation>,
}

impl AdaptiveBudget {
    /// A budget that begins at its largest.
    pub fn new(memory: Memory, limits: Limits) -> Self {
        let baseline = memory.used();
        let state =
            State { tokens: limits.largest, at_work: 0, successes: 0, peak: baseline, count: 0, events: Vec::new() };
        Self { memory, limits, baseline, state: Mutex::new(state) }
    }

    /// Tokens that a new batch may have.
    pub fn tokens(&self) -> usize {
        self.state().tokens
    }

    /// Whether a batch of so many tokens may be computed now; whoever is admitted calls [`AdaptiveBudget::release`].
    /// Above the soft limit it is admitted and the budget shrinks.
    ///
    /// # Errors
    /// If memory would run out; the error says how.
    pub fn admit(&self, tokens: usize) -> Result<(), String> {
        let mut state = self.state();
        let need = self.forecast(state.at_work + tokens);
        if need > self.memory.ceiling() {
            return Err(format!(
                "{tokens} tokens would take {need} bytes, the memory ceiling is {} bytes",
                self.memory.ceiling()
            ));
        }
        state.at_work += tokens;
        if need > self.memory.soft_limit() {
            self.shrink(&mut state, MitigationKind::Shrink);
        }
        Ok(())
    }

    /// A batch that was admitted is done, well or not.
    pub fn release(&self, tokens: usize, succeeded: bool) {
        let mut state = self.state();
        state.at_work = state.at_work.saturating_sub(tokens);
        state.peak = state.peak.max(self.memory.used());
        if !succeeded {
            return;
        }
        state.successes += 1;
        let larger = (state.tokens + self.limits.largest.div_ceil(4)).min(self.limits.largest);
        let fits = self.forecast(larger) <= self.memory.soft_limit();
        if state.successes >= STRETCH && larger > state.tokens && fits {
            self.change(&mut state, MitigationKind::Recover, larger);
        }
    }

    /// Memory ran out: the batch is computed in halves, and the next ones are half as large.
    pub fn split(&self) {
        self.shrink(&mut self.state(), MitigationKind::Split);
    }

    /// The largest memory that was in use, in bytes.
    pub fn peak(&self) -> u64 {
        self.state().peak
    }

    /// How often something was done, and the first of what was done.
    pub fn mitigations(&self) -> (u64, Vec<Mitigation>) {
        let state = self.state();
        (state.count, state.events.clone())
    }

    fn forecast(&self, tokens: usize) -> u64 {
        self.baseline.saturating_add((tokens as u64).saturating_mul(self.limits.bytes_per_token))
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
        tracing::debug!(?kind, from = state.tokens, to = tokens, used, "the budget of a batch changes");
        state.tokens = tokens;
        state.successes = 0;
        state.count += 1;
        state.peak = state.peak.max(used);
        if state.events.len() < MOST_EVENTS {
            state.events.push(event);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole after every line that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A budget of at most 1,000 tokens of 1 MiB each, `room` of which fit beside what is in use.
    fn budget(room: u64) -> AdaptiveBudget {
        let used = Memory::of_process(None).used();
        let memory = Memory::of_process(Some(used + room * MIB));
        AdaptiveBudget { baseline: used, ..AdaptiveBudget::new(memory, Limits { largest: 1000, bytes_per_token: MIB }) }
    }

    fn kinds(budget: &AdaptiveBudget) -> Vec<MitigationKind> {
        budget.mitigations().1.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn without_a_ceiling_nothing_changes() {
        let budget = AdaptiveBudget::new(Memory::of_process(None), Limits { largest: 1000, bytes_per_token: u64::MAX });
        assert_eq!((budget.admit(1000), budget.tokens(), budget.mitigations().0), (Ok(()), 1000, 0));
    }

    #[test]
    fn what_does_not_fit_is_not_admitted_and_the_budget_halves() {
        let budget = budget(300);
        let refused = budget.admit(1000).expect_err("too large");
        assert!(refused.contains("1000 tokens") && refused.contains("ceiling"), "{refused}");
        budget.split();
        assert_eq!((budget.tokens(), kinds(&budget)), (500, vec![MitigationKind::Split]));
        assert_eq!(budget.admit(200), Ok(()));
        assert!(budget.admit(200).is_err(), "two at a time do not fit");
        budget.release(200, true);
        assert_eq!(budget.admit(200), Ok(()));
    }

    #[test]
    fn above_the_soft_limit_batches_shrink_before_memory_runs_out() {
        let used = Memory::of_process(None).used();
        // The soft limit is a share of the whole ceiling.
        let memory = Memory::of_process(Some(used + used));
        let limits = Limits { largest: 100, bytes_per_token: used / 110 };
        let budget = AdaptiveBudget { baseline: used, ..AdaptiveBudget::new(memory, limits) };
        assert_eq!(budget.admit(100), Ok(()));
        assert_eq!((budget.tokens(), kinds(&budget)), (50, vec![MitigationKind::Shrink]));
    }

    #[test]
    fn after_a_stretch_of_success_the_budget_grows_by_a_quarter() {
        let budget = budget(10_000);
        budget.split();
        budget.split();
        assert_eq!(budget.tokens(), 250);
        for _ in 0..STRETCH {
            assert_eq!(budget.admit(1), Ok(()));
            budget.release(1, true);
        }
        assert_eq!(budget.tokens(), 500);
        for _ in 0..2 * STRETCH {
            assert_eq!(budget.admit(1), Ok(()));
            budget.release(1, true);
        }
        assert_eq!(budget.tokens(), 1000);
        assert_eq!(kinds(&budget).iter().filter(|kind| **kind == MitigationKind::Recover).count(), 3);
    }

    #[test]
    fn a_budget_is_never_less_than_a_token() {
        let budget = budget(1);
        for _ in 0..20 {
            budget.split();
        }
        assert_eq!((budget.tokens(), budget.mitigations().0), (1, 20));
    }
}
