//! The plan of the revision as every stage reads it. A plan of another identity, or one that was made with other toggles,
//! is not the stage's own.

use crds::{contract::FailureReason, layout};

use super::Run;
use crate::{
    config::toggles,
    plan::Plan,
    process::error::{Result, StageError},
    store::JsonFile,
};

/// The plan of the revision; `None` if it is not written yet, or not whole.
///
/// # Errors
/// If the plan cannot be read, is of another identity, or was made with other toggles.
pub fn load(run: &Run) -> Result<Option<Plan>> {
    let path = layout::plan(&run.config.revision);
    let JsonFile::Whole(bytes) = run.store.get_json(&path)? else {
        return Ok(None);
    };
    let uri = run.store.uri_of(&path);
    let plan = Plan::parse(&bytes, &uri, &run.config.revision)?;
    if let Some(identity) = plan.identity_sha256.as_deref().filter(|identity| !is_of(run, identity)) {
        let message = format!(
            "{uri} is the plan of another manifest: its identity has the sha256 {identity}, that of this run {}; give \
             the run another spec.output",
            run.config.identity_sha256
        );
        return Err(StageError::new(FailureReason::OutputConflict, message));
    }
    match toggles::difference(&plan.toggles, &run.toggles.of_content(&run.config)) {
        Some(difference) => Err(other_toggles(run, &difference)),
        None => Ok(Some(plan)),
    }
}

/// Whether `identity` is the sha256 of the run's identity; a configuration of an earlier release does not say.
fn is_of(run: &Run, identity: &str) -> bool {
    run.config.identity_sha256.is_empty() || run.config.identity_sha256 == identity
}

/// The error of a process whose toggles differ from those that the revision was planned or computed with.
pub fn other_toggles(run: &Run, difference: &str) -> StageError {
    let message = format!(
        "{difference}: all shards of revision {} must have the same content; use the value of the plan here, or change \
         the manifest (spec.toggles, spec.models), which is a new revision",
        run.config.revision.short()
    );
    StageError::new(FailureReason::InvalidConfiguration, message)
}
