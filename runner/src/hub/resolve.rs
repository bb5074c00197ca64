//! Resolves the models of a run to folders and commits.

use std::{collections::BTreeMap, path::PathBuf};

use crds::{
    contract::{ExitCode, Place, RunnerConfig},
    v1alpha1::ModelSource,
};

use super::{model::HubModel, volume};
use crate::process::{
    error::{Result, StageError},
    interrupt::Interrupt,
};

/// The folder of a model. For a model of a hub it is in the cache, after missing files were fetched.
///
/// # Errors
/// If the model cannot be fetched, or its folder on a volume has links out of the volume.
pub fn folder(model: &str, source: &Place, interrupt: &Interrupt) -> Result<PathBuf> {
    if let Some(hub_model) = HubModel::of(model, source) {
        return Ok(hub_model.settings().and_then(|settings| hub_model.fetch(&settings, interrupt))?);
    }
    volume::check_links(model, source)?;
    Ok(PathBuf::from(&source.path))
}

/// The folder of a model with its settings, and whether it has the weights too. For a model of a hub it is in the cache, after
/// missing settings were fetched.
///
/// # Errors
/// If the settings cannot be fetched, or the folder on a volume has links out of the volume.
pub fn settings_folder(model: &str, source: &Place, interrupt: &Interrupt) -> Result<(PathBuf, bool)> {
    if let Some(hub_model) = HubModel::of(model, source) {
        return Ok(hub_model.settings().and_then(|settings| hub_model.fetch_settings(&settings, interrupt))?);
    }
    volume::check_links(model, source)?;
    Ok((PathBuf::from(&source.path), true))
}

/// Resolves the revisions of all hub models to commits, by the name of the model. A few small requests also check that the
/// models are available, before any weights are fetched.
///
/// # Errors
/// If a model is unavailable that is not optional, or one that may be available later.
pub fn commits(config: &RunnerConfig, interrupt: &Interrupt) -> Result<BTreeMap<String, String>> {
    let dense = config.dense.iter().map(|model| (&model.name, &model.source, model.optional));
    let sparse = config.sparse.iter().map(|model| (&model.name, &model.source, model.optional));
    let reranker = config.reranker.iter().map(|model| (&model.name, &model.source, model.optional));
    let mut commits = BTreeMap::new();
    for (name, source, optional) in dense.chain(sparse).chain(reranker) {
        let Some(hub_model) = HubModel::of(name, source) else { continue };
        match hub_model.settings().and_then(|settings| hub_model.check(&settings, interrupt)) {
            Ok(commit) => {
                commits.insert(name.clone(), commit);
            }
            Err(error) => {
                let error = StageError::from(error);
                // What may pass is tried again, and never costs a run its model.
                if !optional || error.reason.exit_code() == ExitCode::Transient {
                    return Err(error);
                }
                // The pass that would use the model records the fallback.
                tracing::warn!(model = name, "an optional model is unavailable: {}", error.sentence());
            }
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

/// The place at the commit that a summary recorded, if both are of the same repository; otherwise the place itself.
pub fn recorded(source: &Place, recorded: &str) -> Place {
    match (source.uri.parse(), recorded.parse()) {
        (Ok(ModelSource::Hub { repo, .. }), Ok(ModelSource::Hub { repo: same, revision })) if repo == same => {
            pinned(source, &revision)
        }
        _ => source.clone(),
    }
}
