//! The deterministic names and labels of child objects.

use std::collections::BTreeMap;

use crds::{
    contract::Stage,
    identity::Revision,
    v1alpha1::{LABEL_REVISION, LABEL_RUN, LABEL_STAGE},
};

/// The label that names the creator of an object.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The name of a Job: `<run>-<rev10>-plan|embed|finalize`.
pub fn job(run: &str, revision: &Revision, stage: Stage) -> String {
    format!("{run}-{}-{stage}", revision.short())
}

/// The name of the ConfigMap that holds a revision's configuration.
pub fn config_map(run: &str, revision: &Revision) -> String {
    format!("{run}-{}-config", revision.short())
}

/// The labels of every child of a revision.
pub fn labels(run: &str, revision: &Revision) -> BTreeMap<String, String> {
    BTreeMap::from([
        (LABEL_MANAGED_BY.into(), crate::settings::FIELD_MANAGER.into()),
        ("app.kubernetes.io/name".into(), "embedrun-runner".into()),
        (LABEL_RUN.into(), run.into()),
        (LABEL_REVISION.into(), revision.as_str().into()),
    ])
}

/// The labels of a Job and its pods.
pub fn stage_labels(run: &str, revision: &Revision, stage: Stage) -> BTreeMap<String, String> {
    let mut labels = labels(run, revision);
    labels.insert(LABEL_STAGE.into(), stage.as_str().into());
    labels
}

/// The label selector of a run's children, over all revisions.
pub fn selector(run: &str) -> String {
    format!("{LABEL_MANAGED_BY}={},{LABEL_RUN}={run}", crate::settings::FIELD_MANAGER)
}
