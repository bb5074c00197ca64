//! From the models of a run to folders and commits.

use std::{collections::BTreeMap, path::PathBuf};

use crds::{
    contract::{Place, RunnerConfig},
    v1alpha1::ModelSource,
};

use super::model::HubModel;
use crate::process::{error::Result, interrupt::Interrupt};

/// The folder of a model: its own, or for a model of a hub the cache's, once everything that is missing is fetched.
pub fn folder(model: &str, source: &Place, interrupt: &Interrupt) -> Result<PathBuf> {
    match HubModel::of(model, source) {
        Some(wanted) => Ok(wanted.settings().and_then(|settings| wanted.fetch(&settings, interrupt))?),
        None => Ok(PathBuf::from(&source.path)),
    }
}

/// The commits that the revisions of hub models name now, by the name of the model. Finds out, with a few small
/// requests and before any weights are fetched, that a model cannot be had.
pub fn commits(config: &RunnerConfig, interrupt: &Interrupt) -> Result<BTreeMap<String, String>> {
    let dense = config.dense.iter().map(|model| (&model.name, &model.source, model.optional));
    let sparse = config.sparse.iter().map(|model| (&model.name, &model.source, model.optional));
    let reranker = config.reranker.iter().map(|model| (&model.name, &model.source, model.optional));
    let mut commits = BTreeMap::new();
    for (name, source, optional) in dense.chain(sparse).chain(reranker) {
        let Some(wanted) = HubModel::of(name, source) else { continue };
        match wanted.settings().and_then(|settings| wanted.check(&settings, interrupt)) {
            Ok(commit) => {
                commits.insert(name.clone(), commit);
            }
            // Whoever uses it records the fallback.
            Err(error) if optional => tracing::warn!(model = name, "an optional model cannot be had: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(commits)
}

/// The place with the revision of a hub model replaced by a commit.
pub fn pinned(source: &Place, commit: &str) -> Place {
    match source.uri.parse() {
        Ok(ModelSource::Hub { repo, .. }) => {
            let pinned = ModelSource::Hub { repo, revision: commit.to_owned() };
            Place { path: source.path.clone(), uri: pinned.to_string() }
        }
        _ => source.clone(),
    }
}

/// The place at the commit that a summary recorded, where both are of one repository.
pub fn recorded(source: &Place, uri: &str) -> Place {
    match (source.uri.parse(), uri.parse()) {
        (Ok(ModelSource::Hub { repo, .. }), Ok(ModelSource::Hub { repo: same, revision })) if repo == same => {
            pinned(source, &revision)
        }
        _ => source.clone(),
    }
}
