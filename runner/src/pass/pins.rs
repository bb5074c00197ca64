//! The models of a revision, pinned by their files: what the plan and the first load have read is what every later load has
//! to find. Vectors of two versions of a model cannot be compared.

use std::collections::BTreeMap;

use crds::{contract::FailureReason, identity::Revision, layout};
use serde::{Deserialize, Serialize};

use crate::{
    plan::ModelFiles,
    process::error::{Result, StageError},
    store::{PutNew, Store},
};

/// The kind of a model; models of two kinds may have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// A dense encoder.
    Dense,
    /// A sparse encoder.
    Sparse,
    /// A cross-encoder.
    Reranker,
}

impl ModelKind {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Sparse => "sparse",
            Self::Reranker => "reranker",
        }
    }

    /// The name of a model of this kind among all models of a run.
    pub fn key(self, model: &str) -> String {
        format!("{}-{model}", self.name())
    }
}

/// `models/<kind>-<name>.json`: a model as the first stage has loaded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedModel {
    /// [`PinnedModel::VERSION`].
    pub version: u32,
    /// The kind of the model.
    pub kind: String,
    /// Its name.
    pub model: String,
    /// Its source.
    pub source: String,
    /// The digest of all files.
    pub sha256: String,
    /// The files.
    pub files: ModelFiles,
}

impl PinnedModel {
    /// The version of the file that this runner writes and reads.
    pub const VERSION: u32 = 1;
}

/// Compares the models that are loaded for a revision with the pinned ones.
#[derive(Clone, Copy, Debug)]
pub struct ModelPins<'a> {
    /// The output store.
    pub store: &'a Store,
    /// The revision.
    pub revision: &'a Revision,
    /// The settings files of the models that the plan has read, by [`ModelKind::key`].
    pub planned: &'a BTreeMap<String, ModelFiles>,
}

impl ModelPins<'_> {
    /// Checks the files `found` of a model that was loaded from `source`, and pins them if this is the first load.
    ///
    /// # Errors
    /// If a file differs from the plan or from the first load; or if the store fails.
    pub fn check(&self, kind: ModelKind, model: &str, source: &str, found: &ModelFiles) -> Result<()> {
        self.check_plan(kind, model, source, found)?;
        let path = layout::model(self.revision, kind.name(), model);
        let pinned = PinnedModel {
            version: PinnedModel::VERSION,
            kind: kind.name().to_owned(),
            model: model.to_owned(),
            source: source.to_owned(),
            sha256: found.digest(),
            files: found.clone(),
        };
        let mut first = self.read(&path)?;
        if first.is_none() {
            let mut bytes = serde_json::to_vec_pretty(&pinned).expect("a record of strings");
            bytes.push(b'\n');
            if self.store.put_new(&path, bytes)? == PutNew::Existed {
                first = self.read(&path)?;
            }
        }
        let Some(first) = first else { return Ok(()) };
        match first.files.first_difference(found, false) {
            None => Ok(()),
            Some(file) => {
                let since = format!("the first load, which {} records", self.store.uri_of(&path));
                Err(changed(kind, model, source, file, &since))
            }
        }
    }

    /// Checks the files `found` of a model against those that the plan has read.
    ///
    /// # Errors
    /// If one differs.
    pub fn check_plan(&self, kind: ModelKind, model: &str, source: &str, found: &ModelFiles) -> Result<()> {
        let planned = self.planned.get(&kind.key(model));
        match planned.and_then(|planned| planned.first_difference(found, true)) {
            None => Ok(()),
            Some(file) => Err(changed(kind, model, source, file, "the plan")),
        }
    }

    fn read(&self, path: &str) -> Result<Option<PinnedModel>> {
        let Some(bytes) = self.store.get(path)? else { return Ok(None) };
        let unusable = || {
            let message = format!(
                "{} is not a record of a model of version {}; if another release wrote it, finish the revision with that \
                 release, or change spec.rerunToken",
                self.store.uri_of(path),
                PinnedModel::VERSION
            );
            StageError::new(FailureReason::InvalidConfiguration, message)
        };
        let pinned: PinnedModel = serde_json::from_slice(&bytes).map_err(|error| unusable().caused_by(error))?;
        if pinned.version == PinnedModel::VERSION { Ok(Some(pinned)) } else { Err(unusable()) }
    }
}

fn changed(kind: ModelKind, model: &str, source: &str, file: &str, since: &str) -> StageError {
    let message = format!(
        "{} model {model}: the file {file} of {source} has changed since {since}; restore the file, or change \
         spec.rerunToken to embed everything with the new model",
        kind.name()
    );
    StageError::new(FailureReason::ModelChanged, message)
}
