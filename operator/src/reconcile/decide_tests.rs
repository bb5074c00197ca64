//! Decisions by example, and the properties that hold in every world.

use crds::{
    contract::{Failure, FailureReason, FinalizeResult, RunResult},
    v1alpha1::{EmbeddingRunStatus, HistoryEntry, Outcome},
};
use k8s_openapi::jiff::ToSpan;
use proptest::prelude::*;
use serde_json::json;

use super::{
    super::{
        fixtures::{failed, finalized, job, now, planned, revision, run, world},
        world::{ForeignJob, MissingVolume},
    },
    *,
};

fn decided(run: &EmbeddingRun, jobs: Vec<JobState>) -> Decision {
    decide(run, &world(jobs), now())
}

fn step(stage: Stage, completions: u32, chunks: u64) -> Decision {
    Decision::Create(Step { stage, completions, chunks })
}

fn message(decision: &Decision) -> &str {
    match decision {
        Decision::Fail(failure) => &failure.message,
        Decision::Reject(blocked) | Decision::Wait(blocked) => &blocked.message,
        other => panic!("no message: {other:?}"),
    }
}

#[test]
fn a_new_run_is_planned_then_embedded_then_finalized() {
    let run = run(json!({}));
    assert_eq!(decided(&run, vec![]), step(Stage::Plan, 1, 0));
    assert_eq!(decided(&run, vec![job(&run, Stage::Plan, JobPhase::Live)]), Decision::Track(Stage::Plan));
    assert_eq!(decided(&run, vec![planned(&run)]), step(Stage::Embed, 3, 25));
    let embedding = vec![planned(&run), job(&run, Stage::Embed, JobPhase::Live)];
    assert_eq!(decided(&run, embedding), Decision::Track(Stage::Embed));
    let embedded = vec![planned(&run), job(&run, Stage::Embed, JobPhase::Complete)];
    assert_eq!(decided(&run, embedded), step(Stage::Finalize, 1, 0));
    let result = FinalizeResult::default();
    assert_eq!(
        decided(&run, vec![finalized(&run, result.clone())]),
        Decision::Succeed(Box::new(result), Success::Computed)
    );
}

#[test]
fn a_revision_that_the_store_already_holds_ends_without_an_embed_job() {
    let run = run(json!({}));
    let held = FinalizeResult { summary_sha256: "abc".into(), ..FinalizeResult::default() };
    let outcome = StageOutcome::Planned(PlanResult { shards: 3, chunks: 25, complete: Some(held.clone()) });
    let plan = JobState {
        result: JobResult::Read(Box::new(RunResult::new(revision(&run), outcome))),
        ..job(&run, Stage::Plan, JobPhase::Complete)
    };
    assert_eq!(decided(&run, vec![plan]), Decision::Succeed(Box::new(held), Success::AlreadyUpToDate));
}

#[test]
fn a_missing_result_is_computed_again_and_an_unreadable_one_is_not() {
    let run = run(json!({}));
    let missing = job(&run, Stage::Finalize, JobPhase::Complete);
    assert_eq!(decided(&run, vec![missing.clone()]), Decision::Redo(Stage::Finalize, vec![missing.name.clone()]));
    let unreadable = JobState { result: JobResult::Unreadable("contract version 9".into()), ..missing };
    let decision = decided(&run, vec![unreadable]);
    assert!(message(&decision).contains("contract version 9"), "{decision:?}");
}

#[test]
fn superseded_shards_are_embedded_again() {
    let run = run(json!({}));
    let embed = job(&run, Stage::Embed, JobPhase::Complete);
    let superseded = |phase| JobState {
        failures: vec![Failure {
            stage: Stage::Finalize,
            reason: FailureReason::ShardsSuperseded,
            message: "1 of 3 shards are to be embedded again".into(),
            shard: None,
        }],
        ..job(&run, Stage::Finalize, phase)
    };
    // The first pod says so: the retries of the Job would say the same.
    for phase in [JobPhase::Live, failed("BackoffLimitExceeded", "…")] {
        let finalize = superseded(phase);
        let both = vec![embed.name.clone(), finalize.name.clone()];
        let decision = decided(&run, vec![planned(&run), embed.clone(), finalize]);
        assert_eq!(decision, Decision::Redo(Stage::Embed, both));
    }
    // Finalize is gone, and the pods of the old embed Job are not.
    let deleting = JobState { deleting: true, ..embed.clone() };
    let decision = decided(&run, vec![planned(&run), deleting]);
    assert_eq!(decision, Decision::Redo(Stage::Embed, vec![embed.name.clone()]));
    assert_eq!(decided(&run, vec![planned(&run)]), step(Stage::Embed, 3, 25));
    // A retry that succeeded all the same has the last word.
    let result = FinalizeResult::default();
    let finalize = JobState { failures: superseded(JobPhase::Live).failures, ..finalized(&run, result.clone()) };
    let decision = decided(&run, vec![planned(&run), embed, finalize]);
    assert_eq!(decision, Decision::Succeed(Box::new(result), Success::Computed));
}

#[test]
fn a_failed_shard_is_named_with_its_reason() {
    let run = run(json!({}));
    let embed = JobState {
        failed_indexes: "1".into(),
        failures: vec![
            Failure { stage: Stage::Embed, reason: FailureReason::StorageFull, message: "full".into(), shard: Some(0) },
            Failure {
                stage: Stage::Embed,
                reason: FailureReason::SourceChanged,
                message: "a.jsonl changed after it was planned".into(),
                shard: Some(1),
            },
        ],
        ..job(&run, Stage::Embed, failed("MaxFailedIndexesExceeded", "Job has exceeded …"))
    };
    let Decision::Fail(failure) = decided(&run, vec![planned(&run), embed]) else { panic!("not failed") };
    assert_eq!(failure.reason, "SourceChanged");
    assert_eq!(
        failure.message,
        "shard 1: a.jsonl changed after it was planned (failed shards: 1; committed shards are kept)"
    );
}

#[test]
fn a_job_without_a_result_fails_with_the_message_of_its_controller() {
    let run = run(json!({}));
    let plan = job(&run, Stage::Plan, failed("BackoffLimitExceeded", "Job has reached the specified backoff limit"));
    let decision = decided(&run, vec![plan]);
    assert!(message(&decision).contains("BackoffLimitExceeded"), "{decision:?}");
    let late = job(&run, Stage::Plan, failed("DeadlineExceeded", "…"));
    assert!(message(&decided(&run, vec![late])).contains("spec.execution.activeDeadlineSeconds"));
}

#[test]
fn a_terminal_revision_is_latched_whatever_happens_to_its_jobs() {
    let mut run = run(json!({}));
    run.status = Some(EmbeddingRunStatus {
        revision: Some(revision(&run).to_string()),
        outcome: Some(Outcome::Succeeded),
        ..EmbeddingRunStatus::default()
    });
    assert_eq!(decided(&run, vec![]), Decision::Keep(Leftovers::default()));
    let live = job(&run, Stage::Embed, JobPhase::Live);
    let stopped = Leftovers { delete: vec![live.name.clone()], expire: vec![] };
    assert_eq!(decided(&run, vec![live]), Decision::Keep(stopped));
}

#[test]
fn an_upgrade_from_a_release_with_short_revisions_computes_nothing_again() {
    let mut run = run(json!({}));
    let short = revision(&run).short().to_owned();
    let status =
        |outcome| EmbeddingRunStatus { revision: Some(short.clone()), outcome, ..EmbeddingRunStatus::default() };
    run.status = Some(status(Some(Outcome::Succeeded)));
    assert_eq!(decided(&run, vec![]), Decision::Keep(Leftovers::default()));
    // In the middle of a revision: its plan Job is continued, not replaced.
    run.status = Some(status(None));
    let plan = planned(&run);
    assert_eq!(plan.revision.as_str(), short);
    assert_eq!(decided(&run, vec![plan]), step(Stage::Embed, 3, 25));
}

#[test]
fn finished_jobs_expire_only_after_the_result_is_recorded() {
    let mut run = run(json!({"ttlSecondsAfterFinished": 60}));
    let plan = planned(&run);
    assert_eq!(decided(&run, vec![plan.clone()]), step(Stage::Embed, 3, 25));
    run.status = Some(EmbeddingRunStatus {
        revision: Some(revision(&run).to_string()),
        outcome: Some(Outcome::Failed),
        ..EmbeddingRunStatus::default()
    });
    let expire = Leftovers { delete: vec![], expire: vec![(plan.name.clone(), 60)] };
    assert_eq!(decided(&run, vec![plan.clone()]), Decision::Keep(expire));
    let expiring = JobState { ttl: Some(60), ..plan };
    assert_eq!(decided(&run, vec![expiring]), Decision::Keep(Leftovers::default()));
}

#[test]
fn jobs_of_revisions_that_are_not_in_the_history_are_deleted() {
    let mut run = run(json!({}));
    let old = |digits: &str| JobState {
        name: format!("demo-{digits}-plan"),
        revision: Revision::from_recorded(digits),
        ..job(&run, Stage::Plan, JobPhase::Complete)
    };
    let jobs = vec![old("aaaaaaaaaa"), old("bbbbbbbbbb")];
    run.status = Some(EmbeddingRunStatus {
        revision: Some(revision(&run).to_string()),
        outcome: Some(Outcome::Succeeded),
        history: vec![HistoryEntry {
            revision: "aaaaaaaaaa".into(),
            outcome: Outcome::Succeeded,
            reason: "Succeeded".into(),
            start_time: None,
            completion_time: None,
            summary: None,
        }],
        ..EmbeddingRunStatus::default()
    });
    let forgotten = Leftovers { delete: vec!["demo-bbbbbbbbbb-plan".into()], expire: vec![] };
    assert_eq!(decided(&run, jobs), Decision::Keep(forgotten));
}

#[test]
fn jobs_of_another_revision_are_deleted_first() {
    let run = run(json!({}));
    let old = JobState {
        name: "demo-00000-embed".into(),
        revision: Revision::from_recorded("0000000000"),
        ..job(&run, Stage::Embed, JobPhase::Live)
    };
    assert_eq!(decided(&run, vec![old.clone()]), Decision::Retire(vec!["demo-00000-embed".into()]));
    let finished = JobState { phase: JobPhase::Complete, ..old };
    assert_eq!(decided(&run, vec![finished]), step(Stage::Plan, 1, 0));
}

#[test]
fn a_suspended_run_suspends_its_job_and_creates_none() {
    let suspended = run(json!({"suspend": true}));
    assert_eq!(decided(&suspended, vec![]), Decision::Suspend(vec![]));
    let embed = job(&suspended, Stage::Embed, JobPhase::Live);
    assert_eq!(decided(&suspended, vec![embed.clone()]), Decision::Suspend(vec![embed.name.clone()]));
    let held = JobState { suspended: true, ..embed };
    assert_eq!(decided(&suspended, vec![held.clone()]), Decision::Suspend(vec![]));
    let resumed = run(json!({}));
    assert_eq!(decided(&resumed, vec![held.clone()]), Decision::Resume(vec![held.name]));
}

#[test]
fn a_field_that_is_not_implemented_is_rejected_with_its_path() {
    let decision = decided(&run(json!({"queue": {"name": "batch"}})), vec![]);
    let Decision::Reject(blocked) = &decision else { panic!("{decision:?}") };
    assert_eq!(blocked.reason, "NotImplemented");
    assert_eq!(blocked.message, "not implemented yet: spec.queue; remove it or set another value");
}

#[test]
fn an_invalid_pod_template_is_rejected() {
    let decision = decided(&run(json!({"template": {"spec": {"containers": "runner"}}})), vec![]);
    assert!(message(&decision).starts_with("spec.template is not a PodTemplateSpec"), "{decision:?}");
}

#[test]
fn an_invalid_memory_ceiling_is_rejected_with_its_path() {
    let decision = decided(&run(json!({"gpu": {"memoryCeiling": "99999999999Ti"}})), vec![]);
    assert!(message(&decision).starts_with("spec.gpu.memoryCeiling is \"99999999999Ti\""), "{decision:?}");
}

#[test]
fn a_missing_claim_blocks_the_next_job_and_not_the_active_one() {
    let run = run(json!({}));
    let missing = MissingVolume {
        field: "spec.collections[0].source.pvc".into(),
        kind: "PersistentVolumeClaim",
        name: "chunks".into(),
        key: None,
    };
    let with = |jobs| World { missing_volumes: vec![missing.clone()], ..world(jobs) };
    let decision = decide(&run, &with(vec![]), now());
    assert_eq!(
        message(&decision),
        "spec.collections[0].source.pvc: PersistentVolumeClaim \"chunks\" does not exist (namespace search): create it, \
         then the run continues"
    );
    let live = vec![job(&run, Stage::Plan, JobPhase::Live)];
    assert_eq!(decide(&run, &with(live), now()), Decision::Track(Stage::Plan));
}

#[test]
fn a_missing_key_of_the_queries_is_named() {
    let run = run(json!({}));
    let missing_volumes = vec![MissingVolume {
        field: "spec.rerank.queries.configMap".into(),
        kind: "ConfigMap",
        name: "queries".into(),
        key: Some("q.jsonl".into()),
    }];
    let decision = decide(&run, &World { missing_volumes, ..World::default() }, now());
    assert!(matches!(&decision, Decision::Wait(blocked) if blocked.reason == "VolumeNotFound"), "{decision:?}");
    assert_eq!(
        message(&decision),
        "spec.rerank.queries.configMap: ConfigMap \"queries\" has no key \"q.jsonl\" (namespace search): create it, then \
         the run continues"
    );
}

#[test]
fn an_invalid_source_of_any_model_is_rejected_with_its_field() {
    for (models, field) in [
        (json!({"sparse": [{"name": "s", "source": "splade"}]}), "spec.models.sparse[0].source"),
        (json!({"reranker": {"name": "r", "source": "pvc://models/../x"}}), "spec.models.reranker.source"),
    ] {
        let decision = decided(&run(json!({"models": models})), vec![]);
        assert!(matches!(&decision, Decision::Reject(blocked) if blocked.reason == "InvalidSpec"), "{decision:?}");
        assert!(message(&decision).starts_with(field), "{decision:?}");
    }
}

#[test]
fn a_failed_gate_fails_the_run_with_its_own_message() {
    let run = run(json!({}));
    let gate = Failure {
        stage: Stage::Finalize,
        reason: FailureReason::QualityGate,
        message: "collection handbook: ndcg@10 is 0.312, below spec.rerank.gate.minimum 0.35".into(),
        shard: None,
    };
    let finalize = JobState {
        failures: vec![gate.clone()],
        ..job(&run, Stage::Finalize, failed("PodFailurePolicy", "Container runner exited with code 2"))
    };
    let expected = RunFailure { stage: Stage::Finalize, reason: "QualityGate".into(), message: gate.message };
    assert_eq!(decided(&run, vec![finalize]), Decision::Fail(expected));
}

#[test]
fn a_job_of_another_owner_is_never_adopted() {
    let run = run(json!({}));
    for (terminating, word) in [(false, "delete the Job, or rename the run"), (true, "waiting for the deletion")] {
        let foreign_jobs = vec![ForeignJob { name: "demo-x-plan".into(), terminating }];
        let decision = decide(&run, &World { foreign_jobs, ..World::default() }, now());
        assert!(message(&decision).contains(word), "{decision:?}");
    }
}

#[test]
fn a_job_that_does_not_start_in_time_fails_with_the_message_of_the_scheduler() {
    let run = run(json!({"execution": {"startDeadlineSeconds": 60}}));
    let unstarted = JobState {
        started: false,
        pending: Some("pod x: 0/1 nodes are available".into()),
        ..job(&run, Stage::Embed, JobPhase::Live)
    };
    let at = |seconds: i64| decide(&run, &world(vec![unstarted.clone()]), now() + seconds.seconds());
    assert_eq!(at(59), Decision::Track(Stage::Embed));
    assert!(message(&at(60)).contains("0/1 nodes are available"), "{:?}", at(60));
}

#[test]
fn rejected_pods_are_reported_with_their_reason() {
    let run = run(json!({}));
    let rejected = JobState {
        started: false,
        rejection: Some("violates PodSecurity \"restricted\"".into()),
        ..job(&run, Stage::Plan, JobPhase::Live)
    };
    let decision = decided(&run, vec![rejected]);
    assert!(matches!(&decision, Decision::Wait(blocked) if blocked.reason == "Refused"), "{decision:?}");
}

fn any_phase() -> impl Strategy<Value = JobPhase> {
    prop_oneof![Just(JobPhase::Live), Just(JobPhase::Complete), Just(failed("BackoffLimitExceeded", "…"))]
}

proptest! {
    /// In every state of the Jobs, an existing one is never created again, and a latched revision creates none.
    #[test]
    fn no_job_is_created_twice_and_a_latched_revision_creates_none(
        phases in proptest::collection::vec((0..3_usize, any_phase(), any::<bool>()), 0..4),
        ended in any::<bool>(),
        suspend in any::<bool>(),
    ) {
        let mut run = run(json!({"suspend": suspend}));
        if ended {
            run.status = Some(EmbeddingRunStatus {
                revision: Some(revision(&run).to_string()),
                outcome: Some(Outcome::Failed),
                ..EmbeddingRunStatus::default()
            });
        }
        let stages = [Stage::Plan, Stage::Embed, Stage::Finalize];
        let jobs: Vec<JobState> = phases
            .into_iter()
            .map(|(stage, phase, started)| JobState { started, ..job(&run, stages[stage], phase) })
            .collect();
        let world = world(jobs);
        match decide(&run, &world, now()) {
            Decision::Create(step) => {
                prop_assert!(!ended && !suspend);
                prop_assert!(world.job(&revision(&run), step.stage).is_none());
            }
            Decision::Keep(_) => prop_assert!(ended),
            Decision::Suspend(_) => prop_assert!(suspend && !ended),
            _ => prop_assert!(!ended && !suspend),
        }
    }
}
