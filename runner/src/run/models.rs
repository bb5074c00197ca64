//! Opens every model of a run in the plan stage, so that a missing or unsupported model fails there and not after the
//! shards: the reranker is not loaded before finalize.

use std::{collections::BTreeMap, path::Path};

use crds::contract::Place;

use super::Run;
use crate::{
    hub,
    model::Checked,
    pass::{self, ModelKind, fallback_reason},
    plan::ModelFiles,
    process::error::Result,
};

/// Opens the folder, the modules, the configuration and the tokenizer of every model, and the headers of its weights; of a
/// hub model the settings alone, unless its weights are cached. Returns the settings files of each by [`ModelKind::key`];
/// `commits` are the planned commits of hub models.
///
/// # Errors
/// If a model cannot be used that is not optional, a hub fails, or the run is interrupted.
pub(super) fn open_models(run: &Run, commits: &BTreeMap<String, String>) -> Result<BTreeMap<String, ModelFiles>> {
    let mut opened = BTreeMap::new();
    let mut open =
        |kind: ModelKind, name: &str, optional, source: &Place, check: &dyn Fn(&Path, bool) -> Result<Checked>| {
            let source = commits.get(name).map_or_else(|| source.clone(), |commit| hub::pinned(source, commit));
            let checked = hub::settings_folder(name, &source, &run.interrupt)
                .and_then(|(folder, has_weights)| check(&folder, has_weights));
            match checked {
                Ok(checked) => {
                    opened.insert(kind.key(name), checked.files);
                }
                // The pass that would use the model records the fallback.
                Err(error) if optional && fallback_reason(&error).is_some() => {
                    tracing::warn!(model = name, "an optional model cannot be used: {}", error.sentence());
                }
                Err(error) => return Err(error),
            }
            Ok(())
        };
    for model in &run.config.dense {
        open(ModelKind::Dense, &model.name, model.optional, &model.source, &|folder, weights| {
            pass::dense::check(model, folder, weights)
        })?;
    }
    for model in run.toggles.sparse_models(&run.config) {
        open(ModelKind::Sparse, &model.name, model.optional, &model.source, &|folder, weights| {
            pass::sparse::check(model, folder, weights)
        })?;
    }
    if let Some(model) = run.config.reranker.as_ref().filter(|_| run.toggles.features.rerank) {
        open(ModelKind::Reranker, &model.name, model.optional, &model.source, &|folder, weights| {
            pass::rerank::check(model, folder, weights)
        })?;
    }
    Ok(opened)
}
