//! The status that follows from a decision, as a pure function.

mod draft;
mod progress;
mod results;
mod stages;

use crds::v1alpha1::{ConditionType, EmbeddingRun, EmbeddingRunStatus, Phase, reason};
use k8s_openapi::jiff::Timestamp;

use self::draft::Draft;
use super::{decision::Decision, revision, world::World};

/// The status of `run` after `decision`.
pub fn status(run: &EmbeddingRun, world: &World, decision: &Decision, now: Timestamp) -> EmbeddingRunStatus {
    let revision = revision::of(run);
    let mut draft = Draft::new(run, now);
    if let Decision::Reject(blocked) = decision {
        draft.reject(blocked);
        return draft.finish(run);
    }
    draft.start_revision(run, &revision);
    draft.condition(ConditionType::Accepted, true, reason::ACCEPTED, "the spec is valid");
    match decision {
        Decision::Reject(_) => {}
        Decision::Wait(blocked) => draft.wait(blocked),
        Decision::Retire(jobs) => {
            let message = format!("waiting for the deletion of the Jobs of an earlier revision: {}", jobs.join(", "));
            draft.reconciling(Phase::Pending, reason::REPLACED, &message);
        }
        Decision::Suspend(_) => draft.suspend(),
        Decision::Resume(_) => draft.reconciling(Phase::Pending, reason::RESUMED, "resuming the Jobs"),
        Decision::Create(step) => draft.stage(step.stage, world, &revision),
        Decision::Redo(stage, _) | Decision::Track(stage) => draft.stage(*stage, world, &revision),
        Decision::Succeed(result, success) => draft.succeed(run, world, &revision, result, *success),
        Decision::Fail(failure) => draft.fail(world, &revision, failure),
        Decision::Keep(_) => draft.keep_ended(),
    }
    draft.observe_generation();
    draft.finish(run)
}

#[cfg(test)]
mod tests;
