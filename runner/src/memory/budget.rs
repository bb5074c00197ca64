//! How many tokens a batch may have: less under pressure, more after a stretch of success.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

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
    /// Bytes that a token of a batch takes while the batch is computed, as far as it is known beforehand.
    pub bytes_per_token: u64,
    /// Batches that are at work at the same time.
    pub workers: usize,
}

/// What a budget has come to, for the next pass of the same model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Learnt {
    /// Tokens of a batch.
    pub tokens: usize,
    /// Bytes that a token takes: as measured, or as it was estimated.
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

/// The budget that the workers of a pass on one device share.
#[derive(Debug)]
pub struct AdaptiveBudget {
    memory: Memory,
    limits: Limits,
    state: Mutex<State>,
    /// Told whenever a batch is done, or somebody is alone no more.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    tokens: usize,
    /// Memory in use when the pass began, in bytes: the model and all else.
    baseline: u64,
    bytes_per_token: u64,
    /// Tokens of the batches that are being computed.
    at_work: usize,
    /// How many wait until no batch is at work, or are alone; until then no other batch is admitted.
    alone: usize,
    successes: u32,
    peak: u64,
    count: u64,
    events: Vec<Mitigation>,
}

impl AdaptiveBudget {
    /// A budget that begins at its largest, or with what an earlier one has come to.
    pub fn new(memory: Memory, limits: Limits, learnt: Option<Learnt>) -> Self {
        memory.mark();
        // What the allocator kept of an earlier pass's batches is there for the next ones.
        let baseline = memory.used().saturating_sub(memory.idle());
        let begin = learnt.unwrap_or(Learnt { tokens: limits.largest, bytes_per_token: limits.bytes_per_token });
        let state = State {
            tokens: begin.tokens.clamp(1, limits.largest.max(1)),
            baseline,
            bytes_per_token: begin.bytes_per_token,
            at_work: 0,
            alone: 0,
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

    /// What the budget has come to.
    pub fn learnt(&self) -> Learnt {
        let state = self.state();
        Learnt { tokens: state.tokens, bytes_per_token: state.bytes_per_token }
    }

    /// Whether a batch of so many tokens may be computed now; whoever is admitted calls [`AdaptiveBudget::release`].
    /// Above the soft limit it is admitted and the budget shrinks. Waits while somebody is alone.
    ///
    /// # Errors
    /// If memory would run out; the error says how.
    pub fn admit(&self, tokens: usize) -> Result<(), String> {
        let mut state = self.wait_while(self.state(), |state| state.alone > 0);
        let need = state.forecast(state.at_work + tokens);
        self.check(need)?;
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
        state.peak = state.peak.max(self.memory.peak());
        self.changed.notify_all();
        if !succeeded {
            return;
        }
        state.successes += 1;
        let larger = (state.tokens + self.limits.largest.div_ceil(4)).min(self.limits.largest);
        let fits = state.forecast(larger.saturating_mul(self.limits.workers)) <= self.memory.soft_limit();
        if state.successes >= STRETCH && larger > state.tokens && fits {
            self.change(&mut state, MitigationKind::Recover, larger);
        }
    }

    /// A batch was not admitted: it is computed in halves, and the next ones are half as large.
    pub fn split(&self) {
        self.shrink(&mut self.state(), MitigationKind::Split);
    }

    /// As [`AdaptiveBudget::split`], where the device had no memory left: once its other batches are done, what nobody
    /// uses is given back.
    pub fn split_and_trim(&self) {
        let mut state = self.alone();
        self.memory.trim();
        self.shrink(&mut state, MitigationKind::Split);
        self.alone_no_more(state);
    }

    /// Computes a batch of so many tokens while no other is at work, after what nobody uses was given back.
    ///
    /// # Errors
    /// If memory would run out even so; the error says how.
    pub fn compute_alone<T, E>(
        &self,
        tokens: usize,
        compute: impl FnOnce() -> Result<T, E>,
    ) -> Result<Result<T, E>, String> {
        let mut state = self.alone();
        self.memory.trim();
        state.baseline = state.baseline.min(self.memory.used());
        let need = state.forecast(tokens);
        if let Err(message) = self.check(need) {
            self.alone_no_more(state);
            return Err(message);
        }
        state.at_work = tokens;
        drop(state);
        let computed = compute();
        self.release(tokens, computed.is_ok());
        self.alone_no_more(self.state());
        Ok(computed)
    }

    /// Begins to measure: what is in use now is not that of a token.
    pub fn calibrate(&self) {
        self.memory.trim();
        self.memory.mark();
        let mut state = self.state();
        state.baseline = self.memory.used();
        state.peak = state.peak.max(state.baseline);
    }

    /// Whether a batch of so many tokens is worth a try: by what is known of a token, it fits under the ceiling.
    pub fn may_fit(&self, tokens: usize) -> bool {
        self.state().forecast(tokens) <= self.memory.ceiling()
    }

    /// Takes what was in use since [`AdaptiveBudget::calibrate`], when a batch of so many tokens was computed alone.
    /// Where that is under the soft limit, it is from now on what a token costs; otherwise the budget shrinks.
    pub fn measured(&self, tokens: usize) -> bool {
        let peak = self.memory.peak();
        let mut state = self.state();
        state.peak = state.peak.max(peak);
        let fits = peak <= self.memory.soft_limit();
        if fits {
            let taken = peak.saturating_sub(state.baseline);
            // Nothing seen is nothing known.
            if taken > 0 {
                state.bytes_per_token = taken.div_ceil(tokens.max(1) as u64);
            }
        } else {
            self.shrink(&mut state, MitigationKind::Shrink);
        }
        fits
    }

    /// The next batches are half as large.
    pub fn step_down(&self) {
        self.shrink(&mut self.state(), MitigationKind::Shrink);
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

    fn check(&self, need: u64) -> Result<(), String> {
        let ceiling = self.memory.ceiling();
        if need > ceiling {
            return Err(format!(
                "a batch would bring what is in use to {need} bytes, the memory ceiling is {ceiling} bytes"
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
        tracing::debug!(?kind, from = state.tokens, to = tokens, used, "the budget of a batch changes");
        state.tokens = tokens;
        state.successes = 0;
        state.count += 1;
        state.peak = state.peak.max(used);
        if state.events.len() < MOST_EVENTS {
            state.events.push(event);
        }
    }

    /// Waits until no batch is at work, and keeps others from beginning one.
    fn alone(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        state.alone += 1;
        self.wait_while(state, |state| state.at_work > 0)
    }

    fn alone_no_more(&self, mut state: MutexGuard<'_, State>) {
        state.alone -= 1;
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
        // The state is whole after every line that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is in use when so many tokens are at work, in bytes.
    fn forecast(&self, tokens: usize) -> u64 {
        self.baseline.saturating_add((tokens as u64).saturating_mul(self.bytes_per_token))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        thread,
        time::Duration,
    };

    use crds::memory::MemoryCeiling;

    use super::*;
    use crate::memory::MemorySource;

    const MIB: u64 = 1 << 20;

    /// A budget of at most 1,000 tokens of 1 MiB each, `room` of which fit beside what is in use.
    fn budget(room: u64) -> AdaptiveBudget {
        let used = Memory::of_process(None).used();
        let memory = Memory::of_process(Some(used + room * MIB));
        of(memory, used, Limits { largest: 1000, bytes_per_token: MIB, workers: 1 })
    }

    fn of(memory: Memory, baseline: u64, limits: Limits) -> AdaptiveBudget {
        let budget = AdaptiveBudget::new(memory, limits, None);
        budget.state().baseline = baseline;
        budget
    }

    fn kinds(budget: &AdaptiveBudget) -> Vec<MitigationKind> {
        budget.mitigations().1.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn without_a_ceiling_nothing_changes() {
        let limits = Limits { largest: 1000, bytes_per_token: u64::MAX, workers: 1 };
        let budget = AdaptiveBudget::new(Memory::of_process(None), limits, None);
        assert_eq!((budget.admit(1000), budget.tokens(), budget.mitigations().0), (Ok(()), 1000, 0));
    }

    #[test]
    fn what_does_not_fit_is_not_admitted_and_the_budget_halves() {
        let budget = budget(300);
        let refused = budget.admit(1000).expect_err("too large");
        assert!(refused.contains("the memory ceiling is"), "{refused}");
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
        let budget = of(memory, used, Limits { largest: 100, bytes_per_token: used / 110, workers: 1 });
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
    fn a_budget_grows_only_as_far_as_all_workers_fit() {
        let used = Memory::of_process(None).used();
        // Under the soft limit is room for 830 tokens beside what is in use.
        let ceiling = (used as f64 / 0.83) as u64 + 1000 * MIB;
        let limits = |workers| Limits { largest: 1000, bytes_per_token: MIB, workers };
        for (workers, tokens) in [(1, 750), (2, 250)] {
            let budget = of(Memory::of_process(Some(ceiling)), used, limits(workers));
            budget.split();
            budget.split();
            for _ in 0..10 * STRETCH {
                assert_eq!(budget.admit(1), Ok(()));
                budget.release(1, true);
            }
            assert_eq!(budget.tokens(), tokens, "{workers} workers");
        }
    }

    /// A device whose figures are set, and which counts how often it was trimmed.
    #[derive(Debug, Default)]
    struct Set {
        used: AtomicU64,
        peak: AtomicU64,
        trims: AtomicU64,
        idle: AtomicU64,
    }

    impl MemorySource for Set {
        fn name(&self) -> &'static str {
            "set"
        }

        fn used(&self) -> u64 {
            self.used.load(Ordering::Relaxed)
        }

        fn total(&self) -> Option<u64> {
            Some(1000)
        }

        fn idle(&self) -> u64 {
            self.idle.load(Ordering::Relaxed)
        }

        fn trim(&self) {
            self.trims.fetch_add(1, Ordering::Relaxed);
        }

        fn peak(&self) -> Option<u64> {
            Some(self.peak.load(Ordering::Relaxed))
        }
    }

    fn of_device(used: u64, limits: Limits) -> (AdaptiveBudget, Arc<Set>) {
        let device = Arc::new(Set { used: used.into(), ..Set::default() });
        let source: Arc<dyn MemorySource> = device.clone();
        (AdaptiveBudget::new(Memory::of_device(source, MemoryCeiling::Max), limits, None), device)
    }

    #[test]
    fn what_was_measured_takes_the_place_of_the_estimate() {
        let (budget, device) = of_device(100, Limits { largest: 100, bytes_per_token: 1, workers: 1 });
        budget.calibrate();
        device.peak.store(900, Ordering::Relaxed);
        assert!(!budget.measured(100), "the soft limit is 830");
        assert_eq!((budget.tokens(), budget.learnt().bytes_per_token), (50, 1));
        device.peak.store(500, Ordering::Relaxed);
        assert!(budget.measured(50));
        assert_eq!((budget.tokens(), budget.learnt().bytes_per_token), (50, 8));
        assert!(budget.admit(113).expect_err("over the ceiling").contains("1004 bytes"));
        assert_eq!(budget.peak(), 900);
        let limits = Limits { largest: 100, bytes_per_token: 1, workers: 1 };
        let next = AdaptiveBudget::new(Memory::default(), limits, Some(budget.learnt()));
        assert_eq!(next.learnt(), Learnt { tokens: 50, bytes_per_token: 8 });
    }

    #[test]
    fn what_an_allocator_kept_of_an_earlier_pass_is_there_for_the_next_one() {
        let limits = Limits { largest: 100, bytes_per_token: 5, workers: 1 };
        let device = Arc::new(Set { used: 900.into(), idle: 600.into(), ..Set::default() });
        let source: Arc<dyn MemorySource> = device.clone();
        let memory = Memory::of_device(source, MemoryCeiling::Max);
        let budget = AdaptiveBudget::new(memory, limits, Some(Learnt { tokens: 100, bytes_per_token: 5 }));
        assert_eq!(budget.admit(100), Ok(()), "300 bytes of the model, 500 of the batch");
        budget.release(100, true);
        // The model of a pass may become smaller, as far as a batch that is alone can tell.
        device.used.store(200, Ordering::Relaxed);
        assert_eq!(budget.compute_alone(160, || Ok::<_, ()>(())), Ok(Ok(())));
        assert!(budget.compute_alone(161, || Ok::<_, ()>(())).is_err());
    }

    #[test]
    fn a_device_is_trimmed_when_its_last_batch_is_done_and_nobody_begins_meanwhile() {
        let (budget, device) = of_device(0, Limits { largest: 100, bytes_per_token: 1, workers: 2 });
        assert_eq!(budget.admit(10), Ok(()));
        let order = Mutex::new(Vec::new());
        let say =
            |what: &'static str| order.lock().expect("no panic").push((what, device.trims.load(Ordering::Relaxed)));
        thread::scope(|scope| {
            let splitting = scope.spawn(|| {
                budget.split_and_trim();
                say("split");
            });
            while budget.state().alone == 0 {
                thread::yield_now();
            }
            let next = scope.spawn(|| {
                assert_eq!(budget.admit(20), Ok(()));
                say("admitted");
                budget.release(20, true);
            });
            thread::sleep(Duration::from_millis(20));
            assert!(!splitting.is_finished() && !next.is_finished(), "a batch is at work");
            say("released");
            budget.release(10, true);
        });
        let order = order.into_inner().expect("no panic");
        assert_eq!(order[0], ("released", 0));
        assert!(order[1..].iter().all(|(_, trims)| *trims == 1), "{order:?}");
        assert_eq!((budget.tokens(), kinds(&budget)), (50, vec![MitigationKind::Split]));
    }

    #[test]
    fn whoever_computes_alone_waits_for_the_others_and_they_for_it() {
        let (budget, _) = of_device(0, Limits { largest: 100, bytes_per_token: 1, workers: 2 });
        let at_work = AtomicU64::new(0);
        thread::scope(|scope| {
            for alone in [true, false, true, false] {
                let (budget, at_work) = (&budget, &at_work);
                scope.spawn(move || {
                    for _ in 0..200 {
                        if alone {
                            let compute = || {
                                assert_eq!(at_work.load(Ordering::SeqCst), 0, "somebody else is at work");
                                Ok::<_, ()>(())
                            };
                            assert_eq!(budget.compute_alone(7, compute), Ok(Ok(())));
                        } else if budget.admit(7).is_ok() {
                            at_work.fetch_add(1, Ordering::SeqCst);
                            thread::yield_now();
                            at_work.fetch_sub(1, Ordering::SeqCst);
                            budget.release(7, true);
                        }
                    }
                });
            }
        });
        assert!(budget.compute_alone(1001, || Ok::<_, ()>(())).expect_err("too much").contains("ceiling"));
        assert_eq!(budget.admit(7), Ok(()), "nobody is alone any more");
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
