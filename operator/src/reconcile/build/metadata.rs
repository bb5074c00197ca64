//! The metadata of child objects.

use std::collections::BTreeMap;

use crds::v1alpha1::{EmbeddingRun, LABEL_REVISION};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// The metadata of a child: its name, its labels, the run as its owner. The labels and annotations of the run are not
/// copied: tools that track objects by them would take the children for their own.
pub(super) fn metadata(run: &EmbeddingRun, name: String, labels: BTreeMap<String, String>) -> ObjectMeta {
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

pub(super) fn name(run: &EmbeddingRun) -> String {
    run.metadata.name.clone().unwrap_or_default()
}

pub(super) fn namespace(run: &EmbeddingRun) -> String {
    run.metadata.namespace.clone().unwrap_or_default()
}
