//! Statuses that follow from decisions.

use crds::{
    contract::{
        CollectionResult, DenseResult, Failure, FailureReason, FinalizeResult, MESSAGE_LIMIT, RunResult, Stage,
        StageFallback, StageOutcome, StageResult,
    },
    v1alpha1::{FallbackReason, FallbackSource, Outcome, StageStatus, SummaryRef},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use proptest::prelude::*;
use serde_json::json;

use super::{
    super::{
        decision::{Blocked, Leftovers, RunFailure, Step, Success},
        fixtures::{finalized, job, now, planned, revision, run, world},
        world::{JobPhase, JobState},
    },
    *,
};

fn condition<'a>(status: &'a EmbeddingRunStatus, kind: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn holds(status: &EmbeddingRunStatus) -> Vec<&str> {
    let held = status.conditions.iter().filter(|condition| condition.status == "True");
    held.map(|condition| condition.type_.as_str()).collect()
}

fn result() -> FinalizeResult {
    let counts = CollectionResult {
        chunks: 20,
        embedded: 20,
        truncated: 2,
        skipped: 1,
        summary_sha256: "c1".into(),
        dense: vec![DenseResult { dimensions: 384, tokens: 900, seconds: 3, ..DenseResult::default() }; 2],
        ..CollectionResult::default()
    };
    FinalizeResult {
        summary_sha256: "aa".into(),
        totals: CollectionResult { chunks: 25, embedded: 25, ..CollectionResult::default() },
        collections: vec![counts.clone(), CollectionResult { summary_sha256: "c2".into(), ..counts }],
        ..FinalizeResult::default()
    }
}

/// A run that requests every stage.
fn retrieval(change: serde_json::Value) -> EmbeddingRun {
    let mut spec = json!({
        "models": {
            "sparse": [{"name": "splade", "source": "pvc://models/splade"}],
            "reranker": {"name": "ce", "source": "pvc://models/ce"}
        },
        "gpu": {"required": false}
    });
    for (key, value) in change.as_object().expect("fields") {
        spec[key] = value.clone();
    }
    run(spec)
}

fn fallback(reason: FallbackReason, source: FallbackSource, count: u64) -> StageFallback {
    StageFallback { reason, source, count }
}

fn sparse() -> StageResult {
    StageResult { enabled: true, executed: true, coverage: Some(1000), millis: 2050, ..StageResult::default() }
}

fn rerank() -> StageResult {
    StageResult { enabled: true, executed: true, candidates: Some(20), millis: 12_007, ..StageResult::default() }
}

/// A result with these stages, in the totals and in its first collection.
fn staged(sparse: Option<StageResult>, rerank: Option<StageResult>) -> FinalizeResult {
    let mut result = result();
    for counts in [&mut result.totals, &mut result.collections[0]] {
        counts.sparse.clone_from(&sparse);
        counts.rerank.clone_from(&rerank);
        counts.quality = vec![("mrr".into(), 1000), ("ndcg@10".into(), 423), ("recall@10".into(), 7)];
    }
    result
}

fn succeeded(run: &EmbeddingRun, result: FinalizeResult) -> EmbeddingRunStatus {
    after(run, &world(vec![]), &Decision::Succeed(Box::new(result), Success::Computed))
}

fn states(status: &EmbeddingRunStatus) -> [&str; 2] {
    [&status.sparse, &status.rerank].map(|stage| stage.as_ref().map_or("", |stage| stage.state.as_str()))
}

fn after(run: &EmbeddingRun, world: &World, decision: &Decision) -> EmbeddingRunStatus {
    status(run, world, decision, now())
}

#[test]
fn an_active_stage_is_reconciling_with_its_progress() {
    let run = run(json!({}));
    let embed = JobState { succeeded: 1, failed_indexes: "2".into(), ..job(&run, Stage::Embed, JobPhase::Live) };
    let status = after(&run, &world(vec![planned(&run), embed]), &Decision::Track(Stage::Embed));
    assert_eq!(status.phase, Some(Phase::Embedding));
    assert_eq!(holds(&status), ["Accepted", "Admitted", "Reconciling"]);
    let progress = status.progress.expect("progress");
    assert_eq!((progress.display.as_str(), progress.percent, progress.shards_failed), ("1/3 shards", 33, 1));
    assert_eq!(progress.chunks_total, 25);
}

#[test]
fn the_message_says_why_a_pod_is_pending() {
    let run = run(json!({}));
    let embed = JobState { pending: Some("pod x: no GPU".into()), ..job(&run, Stage::Embed, JobPhase::Live) };
    let status = after(&run, &world(vec![planned(&run), embed]), &Decision::Track(Stage::Embed));
    assert_eq!(condition(&status, "Ready").message, "0/3 shards embedded; pod x: no GPU");
}

#[test]
fn success_carries_the_figures_and_the_summaries() {
    let run = run(json!({"gpu": {"count": 0}}));
    let jobs = world(vec![planned(&run), finalized(&run, result())]);
    let status = after(&run, &jobs, &Decision::Succeed(Box::new(result()), Success::Computed));
    assert_eq!(holds(&status), ["Accepted", "Admitted", "Complete", "Ready", "ResultRecorded"]);
    let uri = format!("pvc://vectors/out/runs/{}/processing_summary.json", revision(&run));
    assert_eq!(status.summary, Some(SummaryRef { uri, sha256: "aa".into() }));
    assert_eq!(status.collections[1].name, "notes");
    let uri = format!("pvc://vectors/out/runs/{}/notes/processing_summary.json", revision(&run));
    assert_eq!(status.collections[1].summary, Some(SummaryRef { uri, sha256: "c2".into() }));
    assert_eq!(status.collections[0].dense[1].model, "bge");
    assert_eq!(status.device, Some(StageStatus::disabled()));
    assert_eq!(status.history.len(), 1);
}

#[test]
fn an_up_to_date_run_whose_sources_have_changed_is_ready_and_says_so() {
    let run = run(json!({}));
    let changed = "the source of collection \"handbook\" has changed since: set spec.sourceRevision";
    let result = FinalizeResult { source_changed: Some(changed.into()), ..result() };
    let decision = Decision::Succeed(Box::new(result), Success::AlreadyUpToDate);
    let status = after(&run, &world(vec![planned(&run)]), &decision);
    assert!(holds(&status).contains(&"Ready") && holds(&status).contains(&"Complete"));
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason, "AlreadyUpToDate");
    assert!(ready.message.ends_with(changed), "{}", ready.message);
    let event = super::super::events::transition(run.status.as_ref(), &status, &decision).expect("an event");
    assert!(matches!(event.type_, kube::runtime::events::EventType::Warning));
}

#[test]
fn the_revision_is_also_there_in_its_short_form() {
    let run = run(json!({}));
    let status = after(&run, &world(vec![]), &Decision::Track(Stage::Plan));
    let (revision, short) = (status.revision.expect("a revision"), status.short_revision.expect("a short form"));
    assert_eq!((revision.len(), short.as_str()), (32, &revision[..10]));
}

#[test]
fn a_device_fallback_is_degraded_and_not_silent() {
    let run = run(json!({"gpu": {"required": false}}));
    let result = FinalizeResult { device_fallbacks: 3, ..result() };
    let status = after(&run, &world(vec![]), &Decision::Succeed(Box::new(result), Success::Computed));
    assert_eq!(condition(&status, "Degraded").status, "True");
    assert_eq!(condition(&status, "Degraded").reason, "DeviceFallback");
    assert_eq!(status.device.map(|device| (device.state, device.fallback_count)), Some(("DeviceFallback".into(), 3)));
}

#[test]
fn a_stage_is_pending_if_its_model_is_given_and_no_toggle_disables_it() {
    let active = |run: &EmbeddingRun| after(run, &world(vec![]), &Decision::Track(Stage::Embed));
    assert_eq!(states(&active(&run(json!({})))), ["Disabled", "Disabled"]);
    assert_eq!(states(&active(&retrieval(json!({})))), ["Pending", "Pending"]);
    let off = retrieval(json!({"toggles": {"sparse": false, "rerank": true}}));
    assert_eq!(states(&active(&off)), ["Disabled", "Pending"]);
}

#[test]
fn stages_without_a_fallback_carry_their_figures() {
    let run = retrieval(json!({"gpu": {"count": 0}}));
    let status = succeeded(&run, staged(Some(sparse()), Some(rerank())));
    assert_eq!(condition(&status, "Degraded").status, "False");
    let sparse = StageStatus {
        coverage: Some("1.000".into()),
        latency_seconds: Some("2.050".into()),
        ..StageStatus::executed()
    };
    let rerank =
        StageStatus { candidates: Some(20), latency_seconds: Some("12.007".into()), ..StageStatus::executed() };
    assert_eq!((status.sparse.as_ref(), status.rerank.as_ref()), (Some(&sparse), Some(&rerank)));
    let [first, second] = &status.collections[..] else { panic!("{:?}", status.collections) };
    assert_eq!((first.sparse.as_ref(), first.rerank.as_ref()), (Some(&sparse), Some(&rerank)));
    let quality = [("mrr", "1.000"), ("ndcg@10", "0.423"), ("recall@10", "0.007")];
    assert_eq!(first.quality, quality.map(|(metric, value)| (metric.into(), value.into())).into());
    assert_eq!((second.sparse.as_ref(), second.rerank.as_ref(), second.quality.len()), (None, None, 0));
    assert_eq!(status.dense, None);
}

#[test]
fn every_fallback_is_reported_and_the_first_one_is_the_reason() {
    use FallbackReason::{ExecutionFailed, ModelUnavailable, OutOfMemory};
    use FallbackSource::{Load, Runtime};
    let partly = StageResult { coverage: Some(975), fallback: Some(fallback(OutOfMemory, Runtime, 4)), ..sparse() };
    let broken = StageResult {
        enabled: true,
        fallback: Some(fallback(ExecutionFailed, Runtime, 1)),
        millis: 3,
        ..StageResult::default()
    };
    let result = FinalizeResult {
        dense_fallback: Some(fallback(ModelUnavailable, Load, 2)),
        device_fallbacks: 3,
        ..staged(Some(partly), Some(broken))
    };
    let status = succeeded(&retrieval(json!({})), result);
    let degraded = condition(&status, "Degraded");
    assert_eq!((degraded.status.as_str(), degraded.reason.as_str()), ("True", "ModelUnavailable"));
    assert_eq!(
        degraded.message,
        "dense degraded: ModelUnavailable at load (2×); sparse degraded: OutOfMemory at run time (4×); \
         rerank degraded: ExecutionFailed at run time (1×); device degraded: DeviceFallback at run time (3×), \
         computed on the CPU (spec.gpu requests nvidia.com/gpu)"
    );
    let stage = |stage: &Option<StageStatus>| {
        let stage = stage.as_ref().expect("a stage");
        (stage.state.clone(), stage.executed, stage.fallback_source, stage.fallback_count)
    };
    assert_eq!(stage(&status.dense), ("ModelUnavailable".into(), true, Some(Load), 2));
    assert_eq!(stage(&status.sparse), ("OutOfMemory".into(), true, Some(Runtime), 4));
    assert_eq!(status.sparse.as_ref().and_then(|sparse| sparse.coverage.as_deref()), Some("0.975"));
    assert_eq!(stage(&status.rerank), ("ExecutionFailed".into(), false, Some(Runtime), 1));
    assert_eq!(stage(&status.device), ("DeviceFallback".into(), false, Some(Runtime), 3));
}

#[test]
fn a_stage_that_a_toggle_outside_the_spec_disabled_is_degraded() {
    let off = StageResult {
        fallback: Some(fallback(FallbackReason::FeatureDisabled, FallbackSource::Toggle, 1)),
        ..StageResult::default()
    };
    let status = succeeded(&retrieval(json!({"gpu": {"count": 0}})), staged(Some(sparse()), Some(off)));
    assert_eq!(states(&status), ["Executed", "FeatureDisabled"]);
    assert_eq!(status.rerank.as_ref().map(|rerank| (rerank.enabled, rerank.executed)), Some((false, false)));
    let degraded = condition(&status, "Degraded");
    assert_eq!((degraded.status.as_str(), degraded.reason.as_str()), ("True", "FeatureDisabled"));
    assert_eq!(degraded.message, "rerank degraded: FeatureDisabled by a toggle (1×)");
}

#[test]
fn a_model_that_was_left_out_has_no_figures_and_shifts_no_other() {
    let mut result = result();
    result.collections[0].dense[0] = DenseResult::default();
    let status = succeeded(&run(json!({})), result);
    let models: Vec<&str> = status.collections[0].dense.iter().map(|pass| pass.model.as_str()).collect();
    assert_eq!(models, ["bge"]);
}

#[test]
fn a_restarted_operator_keeps_the_status_of_the_stages() {
    let mut run = retrieval(json!({}));
    let off = StageResult {
        fallback: Some(fallback(FallbackReason::NoQueries, FallbackSource::Input, 1)),
        ..StageResult { enabled: true, ..StageResult::default() }
    };
    let status = succeeded(&run, staged(Some(sparse()), Some(off)));
    let stored = serde_json::to_value(&status).expect("JSON");
    run.status = Some(serde_json::from_value(stored).expect("a status"));
    assert_eq!(after(&run, &world(vec![]), &Decision::Keep(Leftovers::default())), status);
    assert_eq!(condition(&status, "Degraded").reason, "NoQueries");
}

#[test]
fn a_result_of_64_collections_fits_into_the_message_and_loses_no_fallback() {
    let collections: Vec<_> =
        (0..64).map(|index| json!({"name": format!("c{index}"), "source": {"configMap": {"name": "notes"}}})).collect();
    let run = retrieval(json!({"collections": collections}));
    let partly = StageResult {
        coverage: Some(975),
        fallback: Some(fallback(FallbackReason::OutOfMemory, FallbackSource::Runtime, 4)),
        ..sparse()
    };
    let mut result = staged(Some(partly), Some(rerank()));
    result.collections = vec![result.collections[0].clone(); 64];
    let message = RunResult::new(revision(&run), StageOutcome::Finalized(result)).to_message();
    assert!(message.len() < MESSAGE_LIMIT, "{}", message.len());
    let outcome = RunResult::from_message(&message).expect("a result").outcome;
    let StageOutcome::Finalized(result) = outcome else { panic!("{message}") };
    let status = succeeded(&run, result);
    assert_eq!(states(&status), ["OutOfMemory", "Executed"]);
    assert_eq!(condition(&status, "Degraded").reason, "OutOfMemory");
    assert!(!status.collections.is_empty() && status.collections.len() < 64, "{}", status.collections.len());
    assert!(status.collections.iter().all(|collection| collection.quality["ndcg@10"] == "0.423"));
}

#[test]
fn a_failed_gate_is_a_failure_with_its_own_reason_and_message() {
    let message = "collection handbook: ndcg@10 is 0.312, below spec.rerank.gate.minimum 0.35";
    let failure = RunFailure { stage: Stage::Finalize, reason: "QualityGate".into(), message: message.into() };
    let status = after(&retrieval(json!({})), &world(vec![]), &Decision::Fail(failure));
    assert_eq!((status.phase, status.outcome), (Some(Phase::Failed), Some(Outcome::Failed)));
    for kind in ["Failed", "Ready", "Stalled"] {
        let condition = condition(&status, kind);
        assert_eq!(condition.reason, "QualityGate", "{kind}");
        assert_eq!(condition.message, format!("finalize failed: {message}"), "{kind}");
    }
}

#[test]
fn a_failure_leaves_no_stage_pending() {
    let failed = |run: &EmbeddingRun| {
        let failure = RunFailure { stage: Stage::Embed, reason: "OutOfMemory".into(), message: "…".into() };
        after(run, &world(vec![]), &Decision::Fail(failure))
    };
    let status = failed(&retrieval(json!({"toggles": {"sparse": false}})));
    assert_eq!(states(&status), ["Disabled", "Unfinished"]);
    assert_eq!(status.device.as_ref().map(|device| device.state.as_str()), Some("Unfinished"));
    let status = failed(&run(json!({"gpu": {"count": 0}})));
    assert_eq!(states(&status), ["Disabled", "Disabled"]);
    assert_eq!(status.device, Some(StageStatus::disabled()));
}

#[test]
fn a_failure_is_stalled_with_its_reason_everywhere() {
    let run = run(json!({}));
    let failure = RunFailure { stage: Stage::Embed, reason: "InvalidRecord".into(), message: "a.jsonl:7: …".into() };
    let status = after(&run, &world(vec![]), &Decision::Fail(failure));
    assert_eq!(holds(&status), ["Accepted", "Admitted", "Failed", "ResultRecorded", "Stalled"]);
    assert_eq!(condition(&status, "Failed").message, "embed failed: a.jsonl:7: …");
    assert_eq!(status.history[0].reason, "InvalidRecord");
}

#[test]
fn a_rejected_spec_keeps_the_results_of_the_revision_before() {
    let mut run = run(json!({}));
    let done = after(&run, &world(vec![]), &Decision::Succeed(Box::new(result()), Success::Computed));
    run.status = Some(done.clone());
    run.metadata.generation = Some(8);
    let blocked = Blocked { reason: reason::NOT_IMPLEMENTED, message: "not implemented yet: spec.queue".into() };
    let status = after(&run, &world(vec![]), &Decision::Reject(blocked));
    assert_eq!((status.revision.clone(), status.summary.clone()), (done.revision, done.summary));
    assert_eq!(condition(&status, "Accepted").reason, "NotImplemented");
    assert_eq!(condition(&status, "Accepted").observed_generation, Some(8));
    assert!(holds(&status).contains(&"Stalled") && !holds(&status).contains(&"Ready"));
}

#[test]
fn a_spec_reverted_to_a_finished_revision_is_ready_again() {
    let mut run = run(json!({}));
    run.status = Some(after(&run, &world(vec![]), &Decision::Succeed(Box::new(result()), Success::Computed)));
    let blocked = Blocked { reason: reason::NOT_IMPLEMENTED, message: "…".into() };
    run.status = Some(after(&run, &world(vec![]), &Decision::Reject(blocked)));
    let status = after(&run, &world(vec![]), &Decision::Keep(Leftovers::default()));
    assert_eq!(holds(&status), ["Accepted", "Admitted", "Complete", "Ready", "ResultRecorded"]);
}

#[test]
fn a_replaced_revision_is_in_the_history() {
    let mut old = run(json!({"rerunToken": "1"}));
    old.status =
        Some(after(&old, &world(vec![]), &Decision::Create(Step { stage: Stage::Plan, completions: 1, chunks: 0 })));
    let mut new = run(json!({"rerunToken": "2"}));
    new.status.clone_from(&old.status);
    let status = after(&new, &world(vec![]), &Decision::Retire(vec!["demo-x-plan".into()]));
    assert_eq!(status.revision, Some(revision(&new).to_string()));
    assert_eq!(
        (status.history[0].revision.clone(), status.history[0].reason.as_str()),
        (revision(&old).to_string(), "Replaced")
    );
    assert_eq!(status.start_time, None);
}

#[test]
fn a_transition_time_changes_only_with_its_status() {
    let mut run = run(json!({}));
    run.status = Some(after(&run, &world(vec![]), &Decision::Track(Stage::Plan)));
    let later = Timestamp::from_second(super::super::fixtures::NOW + 50).expect("a time");
    let next = status(&run, &world(vec![]), &Decision::Track(Stage::Embed), later);
    assert_eq!(condition(&next, "Reconciling").last_transition_time.0, now());
    assert_eq!(condition(&next, "Reconciling").reason, "Embedding");
}

proptest! {
    /// The same decision in the same world gives the same status again: no write, no endless loop.
    #[test]
    fn a_status_is_a_fixed_point(which in 0..6_usize, limit in 0..4_u32) {
        let mut run = run(json!({"historyLimit": limit}));
        let blocked = || Blocked { reason: reason::VOLUME_NOT_FOUND, message: "…".into() };
        let decision = [
            Decision::Reject(blocked()),
            Decision::Wait(blocked()),
            Decision::Suspend(vec![]),
            Decision::Track(Stage::Embed),
            Decision::Retire(vec!["x".into()]),
            Decision::Keep(Leftovers::default()),
        ][which].clone();
        let world = world(vec![planned(&run)]);
        let once = status(&run, &world, &decision, now());
        run.status = Some(once.clone());
        let later = Timestamp::from_second(super::super::fixtures::NOW + 9).expect("a time");
        prop_assert_eq!(status(&run, &world, &decision, later), once);
    }
}

#[test]
fn shards_that_are_embedded_again_are_named() {
    let run = run(json!({}));
    let finalize = JobState {
        failures: vec![Failure {
            stage: Stage::Finalize,
            reason: FailureReason::ShardsSuperseded,
            message: "1 of 3 shards are to be embedded again: shard 1: x.parquet is missing".into(),
            shard: None,
        }],
        ..job(&run, Stage::Finalize, JobPhase::Live)
    };
    let jobs = vec![planned(&run), job(&run, Stage::Embed, JobPhase::Complete), finalize];
    let world = world(jobs);
    let decision = Decision::Redo(Stage::Embed, vec!["demo-embed".into(), "demo-finalize".into()]);
    let status = status(&run, &world, &decision, now());
    let ready = condition(&status, "Ready");
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Embedding"));
    assert!(ready.message.contains("shard 1: x.parquet is missing"), "{}", ready.message);
}
