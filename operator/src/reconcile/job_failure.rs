//! Why a Job failed: the failures that its pods reported, or else the message of the Job controller.

use crds::{
    contract::{ExitCode, Failure, Stage},
    v1alpha1::reason,
};

use super::{
    decision::RunFailure,
    world::{JobPhase, JobState},
};

/// The failure of a run whose `job` failed.
pub(super) fn of(job: &JobState) -> RunFailure {
    let JobPhase::Failed { reason: job_reason, message: job_message } = &job.phase else {
        return RunFailure { stage: job.stage, reason: reason::JOB_FAILED.into(), message: String::new() };
    };
    let failure = |reason: &str, message| RunFailure { stage: job.stage, reason: reason.into(), message };
    if job_reason == "DeadlineExceeded" {
        return failure(
            reason::DEADLINE_EXCEEDED,
            format!("Job {} ran longer than spec.execution.activeDeadlineSeconds; committed shards are kept", job.name),
        );
    }
    let shards = if job.failed_indexes.is_empty() {
        String::new()
    } else {
        format!(" (failed shards: {}; committed shards are kept)", job.failed_indexes)
    };
    // A permanent failure is the cause; a transient one may only be its consequence in a retry.
    let is_permanent = |failure: &&Failure| failure.reason.exit_code() != ExitCode::Transient;
    match job.failures.iter().find(is_permanent).or_else(|| job.failures.first()) {
        Some(Failure { reason, message, shard: Some(shard), .. }) => {
            failure(&reason.to_string(), format!("shard {shard}: {message}{shards}"))
        }
        Some(Failure { reason, message, shard: None, .. }) => {
            failure(&reason.to_string(), format!("{message}{shards}"))
        }
        None if job.stage == Stage::Embed && !job.failed_indexes.is_empty() => failure(
            reason::SHARD_FAILED,
            format!("{job_message}{shards}; its pods left no result: see kubectl logs job/{}", job.name),
        ),
        None => failure(
            reason::JOB_FAILED,
            format!(
                "Job {0}: {job_reason}: {job_message}; its pods left no result: see kubectl logs job/{0}",
                job.name
            ),
        ),
    }
}
