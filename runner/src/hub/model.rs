//! A model of a hub: its repository and revision.

use crds::{contract::Place, v1alpha1::ModelSource};

use super::error::{HubError, HubFailure};

/// A model of a hub.
#[derive(Clone, Debug)]
pub struct HubModel {
    /// Its name in the run.
    pub model: String,
    /// `owner/name`.
    pub repo: String,
    /// A commit, tag or branch.
    pub revision: String,
}

impl HubModel {
    pub(super) fn of(model: &str, source: &Place) -> Option<Self> {
        match source.uri.parse() {
            Ok(ModelSource::Hub { repo, revision }) => Some(Self { model: model.to_owned(), repo, revision }),
            _ => None,
        }
    }

    pub(super) fn error(&self, failure: HubFailure) -> HubError {
        let source = ModelSource::Hub { repo: self.repo.clone(), revision: self.revision.clone() };
        HubError { model: self.model.clone(), uri: source.to_string(), failure }
    }
}
