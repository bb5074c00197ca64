use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crds::memory::MemoryCeiling;

use super::super::MemorySource;
use super::*;

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
fn a_batch_that_does_not_fit_is_not_admitted_and_the_budget_halves() {
    let budget = budget(300);
    let message = budget.admit(1000).expect_err("too large");
    assert!(message.contains("the memory ceiling is"), "{message}");
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
    for _ in 0..RECOVERY_BATCHES {
        assert_eq!(budget.admit(1), Ok(()));
        budget.release(1, true);
    }
    assert_eq!(budget.tokens(), 500);
    for _ in 0..2 * RECOVERY_BATCHES {
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
        for _ in 0..10 * RECOVERY_BATCHES {
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
fn a_measured_cost_replaces_the_estimate() {
    let (budget, device) = of_device(100, Limits { largest: 100, bytes_per_token: 1, workers: 1 });
    budget.calibrate();
    device.peak.store(900, Ordering::Relaxed);
    assert!(!budget.measured(100), "the soft limit is 830");
    assert_eq!((budget.tokens(), budget.learned().bytes_per_token), (50, 1));
    device.peak.store(500, Ordering::Relaxed);
    assert!(budget.measured(50));
    assert_eq!((budget.tokens(), budget.learned().bytes_per_token), (50, 8));
    assert!(budget.admit(113).expect_err("over the ceiling").contains("1004 bytes"));
    assert_eq!(budget.peak(), 900);
    let limits = Limits { largest: 100, bytes_per_token: 1, workers: 1 };
    let next = AdaptiveBudget::new(Memory::default(), limits, Some(budget.learned()));
    assert_eq!(next.learned(), LearnedBudget { tokens: 50, bytes_per_token: 8 });
}

#[test]
fn memory_that_the_allocator_kept_of_an_earlier_pass_is_available_to_the_next() {
    let limits = Limits { largest: 100, bytes_per_token: 5, workers: 1 };
    let device = Arc::new(Set { used: 900.into(), idle: 600.into(), ..Set::default() });
    let source: Arc<dyn MemorySource> = device.clone();
    let memory = Memory::of_device(source, MemoryCeiling::Max);
    let budget = AdaptiveBudget::new(memory, limits, Some(LearnedBudget { tokens: 100, bytes_per_token: 5 }));
    assert_eq!(budget.admit(100), Ok(()), "300 bytes of the model, 500 of the batch");
    budget.release(100, true);
    // The model of a pass may become smaller, as far as a batch that is alone can tell.
    device.used.store(200, Ordering::Relaxed);
    assert_eq!(budget.compute_alone(160, || Ok::<_, ()>(())), Ok(Ok(())));
    assert!(budget.compute_alone(161, || Ok::<_, ()>(())).is_err());
}

#[test]
fn a_device_is_trimmed_after_its_last_batch_and_no_batch_begins_meanwhile() {
    let (budget, device) = of_device(0, Limits { largest: 100, bytes_per_token: 1, workers: 2 });
    assert_eq!(budget.admit(10), Ok(()));
    let order = Mutex::new(Vec::new());
    let log = |event: &'static str| order.lock().expect("no panic").push((event, device.trims.load(Ordering::Relaxed)));
    thread::scope(|scope| {
        let splitting = scope.spawn(|| {
            budget.split_and_trim();
            log("split");
        });
        while budget.state().exclusive == 0 {
            thread::yield_now();
        }
        let next = scope.spawn(|| {
            assert_eq!(budget.admit(20), Ok(()));
            log("admitted");
            budget.release(20, true);
        });
        thread::sleep(Duration::from_millis(20));
        assert!(!splitting.is_finished() && !next.is_finished(), "a batch is in flight");
        log("released");
        budget.release(10, true);
    });
    let order = order.into_inner().expect("no panic");
    assert_eq!(order[0], ("released", 0));
    assert!(order[1..].iter().all(|(_, trims)| *trims == 1), "{order:?}");
    assert_eq!((budget.tokens(), kinds(&budget)), (50, vec![MitigationKind::Split]));
}

#[test]
fn an_exclusive_batch_waits_for_the_others_and_they_for_it() {
    let (budget, _) = of_device(0, Limits { largest: 100, bytes_per_token: 1, workers: 2 });
    let in_flight = AtomicU64::new(0);
    thread::scope(|scope| {
        for alone in [true, false, true, false] {
            let (budget, in_flight) = (&budget, &in_flight);
            scope.spawn(move || {
                for _ in 0..200 {
                    if alone {
                        let compute = || {
                            assert_eq!(in_flight.load(Ordering::SeqCst), 0, "another batch is in flight");
                            Ok::<_, ()>(())
                        };
                        assert_eq!(budget.compute_alone(7, compute), Ok(Ok(())));
                    } else if budget.admit(7).is_ok() {
                        in_flight.fetch_add(1, Ordering::SeqCst);
                        thread::yield_now();
                        in_flight.fetch_sub(1, Ordering::SeqCst);
                        budget.release(7, true);
                    }
                }
            });
        }
    });
    assert!(budget.compute_alone(1001, || Ok::<_, ()>(())).expect_err("too much").contains("ceiling"));
    assert_eq!(budget.admit(7), Ok(()), "no batch is exclusive any more");
}

#[test]
fn a_budget_is_never_less_than_a_token() {
    let budget = budget(1);
    for _ in 0..20 {
        budget.split();
    }
    assert_eq!((budget.tokens(), budget.mitigations().0), (1, 20));
}
