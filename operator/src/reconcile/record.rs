//! Writes a status in one server-side apply, and tells what changed as events and metrics.

use crds::v1alpha1::{EmbeddingRun, EmbeddingRunStatus};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    apply::Applied,
    decide::{Decision, Success},
};
use crate::{
    context::Context,
    error::{Error, Tried},
    events,
    settings::FIELD_MANAGER,
};

/// Writes `status`, if it says anything new. Takes [`Applied`]: no status without its children.
pub async fn record(
    context: &Context,
    run: &EmbeddingRun,
    decision: &Decision,
    status: EmbeddingRunStatus,
    _: Applied,
) -> Result<(), Error> {
    if run.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let namespace = run.namespace().unwrap_or_default();
    let name = run.name_any();
    let patch = json!({
        "apiVersion": EmbeddingRun::api_version(&()),
        "kind": EmbeddingRun::kind(&()),
        // The uid keeps a late write from reaching a new object of the same name.
        "metadata": {"name": name, "uid": run.metadata.uid},
        "status": status,
    });
    Api::<EmbeddingRun>::namespaced(context.client.clone(), &namespace)
        .patch_status(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await
        .tried(|| format!("write the status of {namespace}/{name}"))?;
    // What the store already held was counted when it was computed.
    if let Decision::Succeed(result, Success::Computed) = decision {
        let revision = status.revision.as_deref().unwrap_or_default();
        context.metrics.record_result(&run.uid().unwrap_or_default(), revision, result);
    }
    if let Some(event) = events::news(run.status.as_ref(), &status, decision)
        && let Err(error) = context.recorder.publish(&event, &run.object_ref(&())).await
    {
        // An event is for people; the status has it all.
        tracing::warn!(%namespace, %name, %error, "cannot publish an event");
    }
    Ok(())
}
