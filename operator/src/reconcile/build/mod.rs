//! The child objects of a run, as pure functions; one file per object.

mod config_map;
mod job;
mod pod;

use crds::{
    contract::RunRef,
    identity::Revision,
    resolve::{self, PodVolumes, ResolveError},
    v1alpha1::{EmbeddingRun, EmbeddingRunSpec, LABEL_REVISION},
};
use k8s_openapi::{
    api::{
        batch::v1::Job,
        core::v1::{ConfigMap, PodTemplateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::Resource;

use super::{decide::Step, names};
use crate::settings::Settings;

/// The objects of one step: the configuration of the revision and the Job of the stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Immutable, named by revision; made with the first Job.
    pub config: ConfigMap,
    /// The Job.
    pub job: Job,
}

/// Builds the children of `step`.
pub fn build(run: &EmbeddingRun, step: Step, settings: &Settings) -> Result<Children, ResolveError> {
    let revision = Revision::of(&run.spec);
    let reference = RunRef { namespace: namespace(run), name: name(run) };
    let config = resolve::resolve(reference, &run.spec, &PodVolumes)?;
    let template = pod::template(run, &revision, step, settings)?;
    Ok(Children { config: config_map::build(run, &revision, &config), job: job::build(run, &revision, step, template) })
}

/// The user's pod override, typed.
pub fn parse_template(spec: &EmbeddingRunSpec) -> Result<Option<PodTemplateSpec>, serde_json::Error> {
    spec.template.clone().map(serde_json::from_value).transpose()
}

/// The metadata of a child: named, labelled by revision, owned by the run. Nothing is copied from the run's own
/// labels and annotations: tools that track objects by them would take the children for theirs.
fn metadata(run: &EmbeddingRun, name: String, labels: std::collections::BTreeMap<String, String>) -> ObjectMeta {
    debug_assert!(labels.contains_key(LABEL_REVISION));
    ObjectMeta {
        name: Some(name),
        namespace: run.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![owner(run)]),
        ..ObjectMeta::default()
    }
}

fn owner(run: &EmbeddingRun) -> OwnerReference {
    OwnerReference {
        api_version: EmbeddingRun::api_version(&()).into_owned(),
        kind: EmbeddingRun::kind(&()).into_owned(),
        name: name(run),
        uid: run.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn name(run: &EmbeddingRun) -> String {
    run.metadata.name.clone().unwrap_or_default()
}

fn namespace(run: &EmbeddingRun) -> String {
    run.metadata.namespace.clone().unwrap_or_default()
}

#[cfg(test)]
#[path = "../build_tests.rs"]
mod tests;
