//! One reconciliation: observe → decide → build → apply → record.
//!
//! `observe`, `apply` and `record` talk to the API server; `decide`, `build` and `status` are pure.

pub mod apply;
pub mod build;
pub mod decide;
pub mod names;
pub mod observe;
pub mod record;
pub mod stages;
pub mod status;
pub mod world;

#[cfg(test)]
mod fixtures;

use std::time::Duration;

use crds::v1alpha1::{EmbeddingRun, reason};
use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};

use crate::{context::Context, error::Error};
use decide::Decision;

/// Takes a run one step further and says when to look again.
pub async fn reconcile(run: &EmbeddingRun, context: &Context) -> Result<Action, Error> {
    if run.metadata.deletion_timestamp.is_some() {
        // The children go with their owner; the output stays.
        return Ok(Action::await_change());
    }
    let namespace = run.namespace().unwrap_or_default();
    let now = Timestamp::now();

    let world = observe::observe(&context.client, run).await?;
    let decision = decide::decide(run, &world, now);
    let children = match &decision {
        Decision::Create(step) => Some(
            build::build(run, *step, &context.settings)
                .map_err(|source| Error::Spec { run: Box::new(ObjectRef::from_obj(run)), source })?,
        ),
        _ => None,
    };
    let applied = apply::apply(&context.client, &namespace, &decision, children.as_ref()).await?;
    let status = status::status(run, &world, &decision, now);
    record::record(context, run, &decision, status, applied).await?;
    Ok(next_look(&decision))
}

/// Watches bring most news; what they do not bring (pods that cannot start, claims that appear) is looked for.
fn next_look(decision: &Decision) -> Action {
    match decision {
        Decision::Track(_) => Action::requeue(Duration::from_secs(15)),
        Decision::Wait(blocked) if blocked.reason == reason::NAME_CONFLICT => Action::requeue(Duration::from_secs(2)),
        Decision::Wait(_) => Action::requeue(Duration::from_secs(10)),
        Decision::Retire(_) | Decision::Redo(..) => Action::requeue(Duration::from_secs(2)),
        Decision::Create(_) | Decision::Resume(_) => Action::requeue(Duration::from_secs(5)),
        // The next look takes care of the leftovers.
        Decision::Succeed(..) | Decision::Fail(_) => Action::requeue(Duration::from_secs(1)),
        Decision::Reject(_) | Decision::Suspend(_) | Decision::Keep(_) => Action::requeue(Duration::from_mins(5)),
    }
}
