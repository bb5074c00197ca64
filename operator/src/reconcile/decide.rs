//! The next step of a run, as a pure function of the spec, the status, the world and the time.
//!
//! Decisions are level-triggered: the same inputs give the same decision, whatever happened before. One decision is one
//! step; the next reconciliation takes the next one.

use crds::{
    contract::{PlanResult, Stage, StageOutcome},
    identity::Revision,
    resolve,
    v1alpha1::{EmbeddingRun, reason},
    validation,
};
use k8s_openapi::jiff::Timestamp;

use super::{
    build,
    decision::{Blocked, Decision, Leftovers, RunFailure, Step, Success},
    job_failure, revision,
    world::{JobPhase, JobResult, JobState, World},
};

/// Decides the next step of `run`.
pub fn decide(run: &EmbeddingRun, world: &World, now: Timestamp) -> Decision {
    let revision = revision::of(run);
    if let Some(blocked) = rejection(run) {
        return Decision::Reject(blocked);
    }
    let status = run.status.as_ref();
    let ended =
        status.is_some_and(|status| status.revision.as_deref() == Some(revision.as_str()) && status.outcome.is_some());
    if ended {
        return Decision::Keep(leftovers(run, &revision, world));
    }
    let obsolete = obsolete_jobs(&revision, world);
    if !obsolete.is_empty() {
        return Decision::Retire(obsolete);
    }
    if run.spec.suspend {
        let running = world.jobs_of(&revision).filter(|job| job.phase == JobPhase::Live && !job.suspended);
        return Decision::Suspend(running.map(|job| job.name.clone()).collect());
    }
    let paused: Vec<String> = world
        .jobs_of(&revision)
        .filter(|job| job.phase == JobPhase::Live && job.suspended)
        .map(|job| job.name.clone())
        .collect();
    if !paused.is_empty() {
        return Decision::Resume(paused);
    }
    advance(run, &revision, world, now)
}

/// Why the spec is rejected, by the checks that the schema cannot express.
fn rejection(run: &EmbeddingRun) -> Option<Blocked> {
    let fields = validation::not_implemented(&run.spec);
    if !fields.is_empty() {
        let message = format!("not implemented yet: {}; remove it or set another value", fields.join(", "));
        return Some(Blocked { reason: reason::NOT_IMPLEMENTED, message });
    }
    let invalid = |message: String| Some(Blocked { reason: reason::INVALID_SPEC, message });
    if let Err(error) = resolve::models(&run.spec) {
        return invalid(error.to_string());
    }
    if let Some(message) = validation::memory_ceiling(&run.spec) {
        return invalid(message);
    }
    match build::parse_template(&run.spec) {
        Err(error) => invalid(format!("spec.template is not a PodTemplateSpec: {error}")),
        Ok(_) => None,
    }
}

/// The Jobs of other revisions that are active or being deleted.
fn obsolete_jobs(revision: &Revision, world: &World) -> Vec<String> {
    world
        .jobs
        .iter()
        .filter(|job| job.revision != *revision && (job.phase == JobPhase::Live || job.deleting))
        .map(|job| job.name.clone())
        .collect()
}

/// The Jobs to clean up after `revision` ended.
fn leftovers(run: &EmbeddingRun, revision: &Revision, world: &World) -> Leftovers {
    let is_in_history = |job: &JobState| {
        let history = run.status.iter().flat_map(|status| &status.history);
        job.revision == *revision || history.into_iter().any(|entry| entry.revision == job.revision.as_str())
    };
    let is_obsolete = |job: &&JobState| !job.deleting && (job.phase == JobPhase::Live || !is_in_history(job));
    let delete: Vec<String> = world.jobs.iter().filter(is_obsolete).map(|job| job.name.clone()).collect();
    let expire = run.spec.ttl_seconds_after_finished.map_or_else(Vec::new, |ttl| {
        let lacks_ttl =
            |job: &&JobState| job.phase != JobPhase::Live && job.ttl != Some(ttl) && !delete.contains(&job.name);
        world.jobs.iter().filter(lacks_ttl).map(|job| (job.name.clone(), ttl)).collect()
    });
    Leftovers { delete, expire }
}

/// Looks at the stages from the last to the first: the Job of a later stage proves that the earlier ones are complete.
fn advance(run: &EmbeddingRun, revision: &Revision, world: &World, now: Timestamp) -> Decision {
    if let Some(again) = embed_again(revision, world) {
        return again;
    }
    if let Some(finalize) = world.job(revision, Stage::Finalize) {
        return match &finalize.phase {
            JobPhase::Live => track(run, finalize, now),
            JobPhase::Failed { .. } => Decision::Fail(job_failure::of(finalize)),
            JobPhase::Complete => match finalize.result.outcome() {
                Some(StageOutcome::Finalized(result)) => Decision::Succeed(Box::new(result.clone()), Success::Computed),
                _ => without_result(finalize),
            },
        };
    }
    if let Some(embed) = world.job(revision, Stage::Embed) {
        return match &embed.phase {
            JobPhase::Live => track(run, embed, now),
            JobPhase::Failed { .. } => Decision::Fail(job_failure::of(embed)),
            JobPhase::Complete => create(run, world, Step { stage: Stage::Finalize, completions: 1, chunks: 0 }),
        };
    }
    let Some(plan) = world.job(revision, Stage::Plan) else {
        return create(run, world, Step { stage: Stage::Plan, completions: 1, chunks: 0 });
    };
    match &plan.phase {
        JobPhase::Live => track(run, plan, now),
        JobPhase::Failed { .. } => Decision::Fail(job_failure::of(plan)),
        JobPhase::Complete => match plan.result.outcome() {
            Some(StageOutcome::Planned(PlanResult { complete: Some(result), .. })) => {
                Decision::Succeed(Box::new(result.clone()), Success::AlreadyUpToDate)
            }
            Some(StageOutcome::Planned(planned)) => {
                let step = Step { stage: Stage::Embed, completions: planned.shards, chunks: planned.chunks };
                create(run, world, step)
            }
            _ => without_result(plan),
        },
    }
}

/// Embeds again if finalize found committed shards that cannot be used: both Jobs are deleted, and the next embed Job
/// computes these shards only. This ends, because finalize supersedes a shard a few times at most.
fn embed_again(revision: &Revision, world: &World) -> Option<Decision> {
    let finalize = world.superseded(revision).and_then(|_| world.job(revision, Stage::Finalize));
    // A deleted Job is there until its pods are gone, and must not pass for the Job that comes after it.
    let embed = world.job(revision, Stage::Embed).filter(|embed| finalize.is_some() || embed.deleting);
    let jobs: Vec<String> = embed.into_iter().chain(finalize).map(|job| job.name.clone()).collect();
    (!jobs.is_empty()).then_some(Decision::Redo(Stage::Embed, jobs))
}

/// A complete Job without a usable result. If its pod was deleted, the stage runs again and finds its work in the
/// store. If the result cannot be used, a repetition would not help.
fn without_result(job: &JobState) -> Decision {
    match &job.result {
        JobResult::Missing => Decision::Redo(job.stage, vec![job.name.clone()]),
        JobResult::Unreadable(problem) => unusable_result(job, problem),
        JobResult::Read(_) => unusable_result(job, "its result is of another stage"),
    }
}

fn unusable_result(job: &JobState, problem: &str) -> Decision {
    Decision::Fail(RunFailure {
        stage: job.stage,
        reason: reason::JOB_FAILED.into(),
        message: format!(
            "Job {} completed, but {problem}; check that the runner image (spec.execution.runnerImage) has the release of \
             the operator",
            job.name
        ),
    })
}

/// Creates a Job, unless something that it mounts is missing or its name is taken.
fn create(run: &EmbeddingRun, world: &World, step: Step) -> Decision {
    if !world.missing_volumes.is_empty() {
        let missing: Vec<String> = world.missing_volumes.iter().map(ToString::to_string).collect();
        let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
        let object = if missing.len() == 1 { "it" } else { "them" };
        let message =
            format!("{} (namespace {namespace}): create {object}, then the run continues", missing.join("; "));
        return Decision::Wait(Blocked { reason: reason::VOLUME_NOT_FOUND, message });
    }
    if let Some(job) = world.foreign_jobs.first() {
        let message = if job.terminating {
            format!(
                "waiting for the deletion of Job {:?}, which has another owner and the labels of this run",
                job.name
            )
        } else {
            format!(
                "Job {:?} has another owner and the labels of this run: delete the Job, or rename the run",
                job.name
            )
        };
        return Decision::Wait(Blocked { reason: reason::NAME_CONFLICT, message });
    }
    Decision::Create(step)
}

/// Tracks an active Job, unless its pods are rejected or do not start in time.
fn track(run: &EmbeddingRun, job: &JobState, now: Timestamp) -> Decision {
    let exceeded = run.spec.execution.start_deadline_seconds.filter(|limit| {
        !job.started && job.waiting_since.is_some_and(|since| now.as_second() - since.as_second() >= *limit)
    });
    if let Some(limit) = exceeded {
        let cause = job.rejection.as_deref().or(job.pending.as_deref()).unwrap_or("no pod was scheduled");
        return Decision::Fail(RunFailure {
            stage: job.stage,
            reason: reason::START_DEADLINE_EXCEEDED.into(),
            message: format!(
                "no pod of Job {} started within {limit} s (spec.execution.startDeadlineSeconds): {cause}",
                job.name
            ),
        });
    }
    if let Some(rejection) = job.rejection.as_ref().filter(|_| !job.started) {
        let message = format!("the API server rejects the pods of Job {}: {rejection}", job.name);
        return Decision::Wait(Blocked { reason: reason::REFUSED, message });
    }
    Decision::Track(job.stage)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
