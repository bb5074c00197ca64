//! The immutable ConfigMap with the configuration of a revision.

use std::collections::BTreeMap;

use crds::{
    contract::{CONFIG_KEY, RunnerConfig},
    identity::Revision,
    v1alpha1::EmbeddingRun,
};
use k8s_openapi::api::core::v1::ConfigMap;

use super::{
    super::names,
    metadata::{metadata, name},
};

pub(super) fn build(run: &EmbeddingRun, revision: &Revision, config: &RunnerConfig) -> ConfigMap {
    let run_name = name(run);
    ConfigMap {
        metadata: metadata(run, names::config_map(&run_name, revision), names::labels(&run_name, revision)),
        data: Some(BTreeMap::from([(CONFIG_KEY.into(), config.to_json())])),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}
