//! The child objects of a run, as pure functions; one file per object.

mod accelerator;
mod config_map;
mod job;
mod metadata;
mod pod;
mod template;
mod volumes;

use crds::{
    contract::{RunRef, RunnerConfig},
    resolve::{self, PodVolumes, ResolveError},
    v1alpha1::EmbeddingRun,
};
use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};

use self::metadata::{name, namespace};
pub use self::template::parse_template;
use super::{decision::Step, revision};
use crate::settings::Settings;

/// The objects of one step: the configuration of the revision and the Job of the stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// The configuration: immutable, named by revision, created with the first Job.
    pub config: ConfigMap,
    /// The Job.
    pub job: Job,
}

/// Builds the children of `step`.
///
/// # Errors
///
/// [`ResolveError`] if the spec cannot be resolved to a configuration.
pub fn build(run: &EmbeddingRun, step: Step, settings: &Settings) -> Result<Children, ResolveError> {
    let revision = revision::of(run);
    let uid = run.metadata.uid.clone().unwrap_or_default();
    let reference = RunRef { namespace: namespace(run), name: name(run), uid };
    let config = RunnerConfig { revision: revision.clone(), ..resolve::resolve(reference, &run.spec, &PodVolumes)? };
    let template = pod::template(run, &revision, step, settings)?;
    Ok(Children { config: config_map::build(run, &revision, &config), job: job::build(run, &revision, step, template) })
}

#[cfg(test)]
mod tests;
