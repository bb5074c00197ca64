//! What to do next, as a pure function of the spec, the status, the world and the time.
//!
//! Level, never edge: the same inputs give the same decision, whatever happened before. One decision is one
//! step; the next reconciliation takes the next one.

use crds::{
    contract::{ExitCode, Failure, FinalizeResult, PlanResult, Stage, StageOutcome},
    identity::Revision,
    resolve,
    v1alpha1::{EmbeddingRun, reason},
    validation,
};
use k8s_openapi::jiff::Timestamp;

use super::{
    build,
    world::{JobPhase, JobResult, JobState, World},
};

/// The next step of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The spec cannot be acted on.
    Reject(Blocked),
    /// Something outside has to change first.
    Wait(Blocked),
    /// Jobs of other revisions have to go first.
    Retire(Vec<String>),
    /// The Jobs are told to pause; they may be none.
    Suspend(Vec<String>),
    /// The Jobs are told to go on.
    Resume(Vec<String>),
    /// A Job is made.
    Create(Step),
    /// A finished Job left no readable result; it is deleted, and made again next time.
    Redo(Stage, Vec<String>),
    /// A Job is at work.
    Track(Stage),
    /// The revision is complete.
    Succeed(Box<FinalizeResult>, Success),
    /// The revision has failed.
    Fail(RunFailure),
    /// The revision had ended before; only its leftovers are looked after.
    Keep(Leftovers),
}

/// A Job to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its stage.
    pub stage: Stage,
    /// Its completions: the number of shards in the embed stage, else 1.
    pub completions: u32,
    /// Chunks in the plan, once there is one.
    pub chunks: u64,
}

/// Why a run does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The reason of the condition.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// How a revision came to be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// This run computed it.
    Computed,
    /// The store held it already.
    AlreadyUpToDate,
}

/// Why a revision failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFailure {
    /// The stage that failed.
    pub stage: Stage,
    /// The reason of the condition.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

/// What is left to do for a revision that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Jobs that must not run any more, and those of forgotten revisions.
    pub delete: Vec<String>,
    /// Jobs that get `ttlSecondsAfterFinished`.
    pub expire: Vec<(String, i32)>,
}

/// Decides the next step of `run`.
pub fn decide(run: &EmbeddingRun, world: &World, now: Timestamp) -> Decision {
    let revision = Revision::of(&run.spec);
    if let Some(blocked) = unusable(run) {
        return Decision::Reject(blocked);
    }
    let status = run.status.as_ref();
    let ended =
        status.is_some_and(|status| status.revision.as_deref() == Some(revision.as_str()) && status.outcome.is_some());
    if ended {
        return Decision::Keep(leftovers(run, &revision, world));
    }
    let retired = retired(&revision, world);
    if !retired.is_empty() {
        return Decision::Retire(retired);
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

/// What makes a spec unusable, beyond what the schema can say.
fn unusable(run: &EmbeddingRun) -> Option<Blocked> {
    let missing = validation::not_implemented(&run.spec);
    if !missing.is_empty() {
        let message = format!("not implemented yet: {}", missing.join(", "));
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
        Err(error) => invalid(format!("spec.template is no PodTemplateSpec: {error}")),
        Ok(_) => None,
    }
}

/// Jobs of other revisions that are still at work, or on their way out.
fn retired(revision: &Revision, world: &World) -> Vec<String> {
    world
        .jobs
        .iter()
        .filter(|job| job.revision != *revision && (job.phase == JobPhase::Live || job.deleting))
        .map(|job| job.name.clone())
        .collect()
}

fn leftovers(run: &EmbeddingRun, revision: &Revision, world: &World) -> Leftovers {
    let remembered = |job: &JobState| {
        let history = run.status.iter().flat_map(|status| &status.history);
        job.revision == *revision || history.into_iter().any(|entry| entry.revision == job.revision.as_str())
    };
    let goes = |job: &&JobState| !job.deleting && (job.phase == JobPhase::Live || !remembered(job));
    let delete: Vec<String> = world.jobs.iter().filter(goes).map(|job| job.name.clone()).collect();
    let expire = run.spec.ttl_seconds_after_finished.map_or_else(Vec::new, |ttl| {
        let due = |job: &&JobState| job.phase != JobPhase::Live && job.ttl != Some(ttl) && !delete.contains(&job.name);
        world.jobs.iter().filter(due).map(|job| (job.name.clone(), ttl)).collect()
    });
    Leftovers { delete, expire }
}

/// The stages in their order, the last one that exists first: a later Job is proof of the earlier ones.
fn advance(run: &EmbeddingRun, revision: &Revision, world: &World, now: Timestamp) -> Decision {
    if let Some(finalize) = world.job(revision, Stage::Finalize) {
        return match &finalize.phase {
            JobPhase::Live => track(run, finalize, now),
            JobPhase::Failed { .. } => Decision::Fail(failure(finalize)),
            JobPhase::Complete => match finalize.result.outcome() {
                Some(StageOutcome::Finalized(result)) => Decision::Succeed(Box::new(result.clone()), Success::Computed),
                _ => without_result(finalize),
            },
        };
    }
    if let Some(embed) = world.job(revision, Stage::Embed) {
        return match &embed.phase {
            JobPhase::Live => track(run, embed, now),
            JobPhase::Failed { .. } => Decision::Fail(failure(embed)),
            JobPhase::Complete => create(run, world, Step { stage: Stage::Finalize, completions: 1, chunks: 0 }),
        };
    }
    let Some(plan) = world.job(revision, Stage::Plan) else {
        return create(run, world, Step { stage: Stage::Plan, completions: 1, chunks: 0 });
    };
    match &plan.phase {
        JobPhase::Live => track(run, plan, now),
        JobPhase::Failed { .. } => Decision::Fail(failure(plan)),
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

/// A complete Job whose result is not known: where the pod is gone the stage is done again (it finds its work
/// in the store), where the pod speaks another language that would not help.
fn without_result(job: &JobState) -> Decision {
    match &job.result {
        JobResult::Gone => Decision::Redo(job.stage, vec![job.name.clone()]),
        JobResult::Unreadable(why) => unexpected(job, why),
        JobResult::Read(_) => unexpected(job, "the result is of another stage"),
    }
}

fn unexpected(job: &JobState, why: &str) -> Decision {
    Decision::Fail(RunFailure {
        stage: job.stage,
        reason: reason::JOB_FAILED.into(),
        message: format!("Job {} completed, but {why}; is spec.execution.runnerImage of this release?", job.name),
    })
}

fn create(run: &EmbeddingRun, world: &World, step: Step) -> Decision {
    if !world.missing.is_empty() {
        let names: Vec<String> =
            world.missing.iter().map(|missing| format!("{missing}, which does not exist")).collect();
        let namespace = run.metadata.namespace.as_deref().unwrap_or_default();
        let message = format!("{} in namespace {namespace}; the run goes on once it does", names.join("; "));
        return Decision::Wait(Blocked { reason: reason::VOLUME_NOT_FOUND, message });
    }
    if let Some(job) = world.foreign.first() {
        let message = if job.leaving {
            format!("waiting for Job {:?} of an earlier object of this name to be gone", job.name)
        } else {
            format!("Job {:?} belongs to something else: delete it, or give the run another name", job.name)
        };
        return Decision::Wait(Blocked { reason: reason::NAME_CONFLICT, message });
    }
    Decision::Create(step)
}

fn track(run: &EmbeddingRun, job: &JobState, now: Timestamp) -> Decision {
    let late = run.spec.execution.start_deadline_seconds.filter(|limit| {
        !job.started && job.waiting_since.is_some_and(|since| now.as_second() - since.as_second() >= *limit)
    });
    if let Some(limit) = late {
        let why = job.refused.as_deref().or(job.waiting.as_deref()).unwrap_or("no pod was scheduled");
        return Decision::Fail(RunFailure {
            stage: job.stage,
            reason: reason::START_DEADLINE_EXCEEDED.into(),
            message: format!(
                "no pod of Job {} started within {limit} s (spec.execution.startDeadlineSeconds): {why}",
                job.name
            ),
        });
    }
    if let Some(refusal) = job.refused.as_ref().filter(|_| !job.started) {
        let message = format!("the pods of Job {} are refused: {refusal}", job.name);
        return Decision::Wait(Blocked { reason: reason::REFUSED, message });
    }
    Decision::Track(job.stage)
}

/// Why a Job failed: what its pods said, else what the Job controller says.
fn failure(job: &JobState) -> RunFailure {
    let JobPhase::Failed { reason: job_reason, message: job_message } = &job.phase else {
        return RunFailure { stage: job.stage, reason: reason::JOB_FAILED.into(), message: String::new() };
    };
    let told = |failure: &Failure| RunFailure {
        stage: job.stage,
        reason: failure.reason.to_string(),
        message: match failure.shard {
            Some(shard) => format!("shard {shard}: {}", failure.message),
            None => failure.message.clone(),
        },
    };
    let shards = if job.failed_indexes.is_empty() {
        String::new()
    } else {
        format!(" (failed shards: {}; what the others committed is kept)", job.failed_indexes)
    };
    if job_reason == "DeadlineExceeded" {
        return RunFailure {
            stage: job.stage,
            reason: reason::DEADLINE_EXCEEDED.into(),
            message: format!(
                "Job {} ran longer than spec.execution.activeDeadlineSeconds; what is committed is kept",
                job.name
            ),
        };
    }
    // A failure that trying again cannot mend says more than one that a retry ran into.
    let lasting = |failure: &&Failure| failure.reason.exit_code() != ExitCode::Transient;
    match job.failures.iter().find(lasting).or_else(|| job.failures.first()) {
        Some(failure) => {
            let told = told(failure);
            RunFailure { message: format!("{}{shards}", told.message), ..told }
        }
        None if job.stage == Stage::Embed && !job.failed_indexes.is_empty() => RunFailure {
            stage: job.stage,
            reason: reason::SHARD_FAILED.into(),
            message: format!("{job_message}{shards}; the pods left no result, see their logs"),
        },
        None => RunFailure {
            stage: job.stage,
            reason: reason::JOB_FAILED.into(),
            message: format!("Job {}: {job_reason}: {job_message}; its pods left no result, see their logs", job.name),
        },
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
