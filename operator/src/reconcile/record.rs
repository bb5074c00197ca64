//! Writes the status in one server-side apply, then publishes events and metrics.

use crds::v1alpha1::{EmbeddingRun, EmbeddingRunStatus};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    apply::Applied,
    decision::{Decision, Success},
    events,
};
use crate::{
    context::Context,
    error::{Error, WithAction},
    settings::FIELD_MANAGER,
};

/// Writes `status` if it changed. Requires [`Applied`]: the children must be written before the status.
///
/// # Errors
///
/// [`Error::Api`] if the status cannot be written. An event that cannot be published is only logged.
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
        // The uid prevents a late write to a new object with the same name.
        "metadata": {"name": name, "uid": run.metadata.uid},
        "status": status,
    });
    Api::<EmbeddingRun>::namespaced(context.client.clone(), &namespace)
        .patch_status(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await
        .with_action(|| format!("write the status of {namespace}/{name}"))?;
    // A revision that the store already held was counted when it was computed.
    if let Decision::Succeed(result, Success::Computed) = decision {
        let revision = status.revision.as_deref().unwrap_or_default();
        context.metrics.record_result(&run.uid().unwrap_or_default(), revision, result);
    }
    if let Some(event) = events::transition(run.status.as_ref(), &status, decision)
        && let Err(error) = context.recorder.publish(&event, &run.object_ref(&())).await
    {
        // The status contains the same information.
        tracing::warn!(%namespace, %name, %error, "cannot publish an event; the status has the same information");
    }
    Ok(())
}
