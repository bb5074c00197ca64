//! One reconciliation: observe → decide → build → apply → record.
//!
//! `observe`, `apply` and `record` talk to the API server; `decide`, `build` and `status` are pure.

pub mod apply;
pub mod build;
pub mod decide;
pub mod decision;
pub mod events;
mod job_failure;
mod job_state;
pub mod names;
pub mod observe;
pub mod record;
pub mod requeue;
mod revision;
pub mod status;
pub mod world;

#[cfg(test)]
mod fixtures;

use crds::v1alpha1::EmbeddingRun;
use k8s_openapi::jiff::Timestamp;
use kube::{
    ResourceExt,
    runtime::{controller::Action, reflector::ObjectRef},
};

use crate::{context::Context, error::Error};
use decision::Decision;

/// Takes a run one step further. Returns when to reconcile it again.
///
/// # Errors
///
/// [`Error::Api`] if the API server rejects a request or does not answer, [`Error::Spec`] if the spec cannot be
/// resolved.
pub async fn reconcile(run: &EmbeddingRun, context: &Context) -> Result<Action, Error> {
    if run.metadata.deletion_timestamp.is_some() {
        // Garbage collection deletes the children; the output is kept.
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
    Ok(requeue::after(&decision))
}
