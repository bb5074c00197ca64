//! Statuses that follow from decisions.

use crds::contract::DenseResult;
use proptest::prelude::*;
use serde_json::json;

use super::{
    super::{
        decide::{Leftovers, Step},
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
        dense: vec![DenseResult { dimensions: 384, tokens: 900, seconds: 3 }; 2],
    };
    FinalizeResult {
        summary_sha256: "aa".into(),
        totals: CollectionResult { chunks: 25, embedded: 25, ..CollectionResult::default() },
        device_fallbacks: 0,
        collections: vec![counts.clone(), CollectionResult { summary_sha256: "c2".into(), ..counts }],
        omitted: 0,
    }
}

fn after(run: &EmbeddingRun, world: &World, decision: &Decision) -> EmbeddingRunStatus {
    status(run, world, decision, now())
}

#[test]
fn a_stage_at_work_is_reconciling_with_its_progress() {
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
fn a_pod_that_waits_is_told_in_the_message() {
    let run = run(json!({}));
    let embed = JobState { waiting: Some("pod x: no GPU".into()), ..job(&run, Stage::Embed, JobPhase::Live) };
    let status = after(&run, &world(vec![planned(&run), embed]), &Decision::Track(Stage::Embed));
    assert_eq!(condition(&status, "Ready").message, "0/3 shards embedded; pod x: no GPU");
}

#[test]
fn success_carries_the_figures_and_where_the_summaries_lie() {
    let run = run(json!({"gpu": {"count": 0}}));
    let jobs = world(vec![planned(&run), finalized(&run, result())]);
    let status = after(&run, &jobs, &Decision::Succeed(result(), Success::Computed));
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
fn a_device_fallback_is_degraded_and_not_silent() {
    let run = run(json!({"gpu": {"required": false}}));
    let result = FinalizeResult { device_fallbacks: 3, ..result() };
    let status = after(&run, &world(vec![]), &Decision::Succeed(result, Success::Computed));
    assert_eq!(condition(&status, "Degraded").status, "True");
    assert_eq!(condition(&status, "Degraded").reason, "DeviceFallback");
    assert_eq!(status.device.map(|device| (device.state, device.fallback_count)), Some(("DeviceFallback".into(), 3)));
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
    let done = after(&run, &world(vec![]), &Decision::Succeed(result(), Success::Computed));
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
fn a_spec_put_back_to_a_finished_revision_is_ready_again() {
    let mut run = run(json!({}));
    run.status = Some(after(&run, &world(vec![]), &Decision::Succeed(result(), Success::Computed)));
    let blocked = Blocked { reason: reason::NOT_IMPLEMENTED, message: "…".into() };
    run.status = Some(after(&run, &world(vec![]), &Decision::Reject(blocked)));
    let status = after(&run, &world(vec![]), &Decision::Keep(Leftovers::default()));
    assert_eq!(holds(&status), ["Accepted", "Admitted", "Complete", "Ready", "ResultRecorded"]);
}

#[test]
fn a_revision_that_was_replaced_is_remembered() {
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
fn a_transition_time_moves_only_with_its_status() {
    let mut run = run(json!({}));
    run.status = Some(after(&run, &world(vec![]), &Decision::Track(Stage::Plan)));
    let later = Timestamp::from_second(super::super::fixtures::NOW + 50).expect("a time");
    let next = status(&run, &world(vec![]), &Decision::Track(Stage::Embed), later);
    assert_eq!(condition(&next, "Reconciling").last_transition_time.0, now());
    assert_eq!(condition(&next, "Reconciling").reason, "Embedding");
}

#[test]
fn lists_of_indexes_are_counted() {
    assert_eq!(["", "4", "1,3-5", "0-9,11", "x", "5-3"].map(count_indexes), [0, 1, 4, 11, 0, 0]);
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
