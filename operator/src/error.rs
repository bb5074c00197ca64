//! What can go wrong in a reconciliation, apart from what a run itself reports.

use kube::runtime::reflector::ObjectRef;

/// An error of a reconciliation; it is tried again with a growing delay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or did not answer.
    #[error("cannot {action}: {source}")]
    Api {
        /// What was tried, on which object.
        action: String,
        /// What the client said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A spec passed every check and could not be resolved all the same.
    #[error("{run}: {source}")]
    Spec {
        /// The run.
        run: Box<ObjectRef<crds::v1alpha1::EmbeddingRun>>,
        /// Why the spec cannot be resolved.
        #[source]
        source: crds::resolve::ResolveError,
    },
}

impl Error {
    /// The class of the error, a bounded label.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(_) => "api_refused",
                _ => "api_unreachable",
            },
            Self::Spec { .. } => "spec",
        }
    }
}

/// Adds what was tried to an error of the client.
pub trait Tried<T> {
    /// Names the action, for example `create Job search/handbook-7f3a9-plan`.
    fn tried(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Tried<T> for Result<T, kube::Error> {
    fn tried(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Api { action: action(), source: Box::new(source) })
    }
}
