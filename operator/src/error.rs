//! Errors of a reconciliation. The failure of a run is part of its status and not an error here.

use kube::runtime::reflector::ObjectRef;

/// An error of a reconciliation; the controller retries with a growing delay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server rejected a request or did not answer.
    #[error("cannot {action}: {source}")]
    Api {
        /// The failed action and its object, for example `create Job search/handbook-7f3a9-plan`.
        action: String,
        /// The error of the client.
        #[source]
        source: Box<kube::Error>,
    },
    /// A spec passed every check and still cannot be resolved.
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
    /// The class of the error, for a metric label: one of a bounded set.
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

/// Adds the failed action to an error of the client.
pub trait WithAction<T> {
    /// Names the action and its object, for example `create Job search/handbook-7f3a9-plan`.
    fn with_action(self, action: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> WithAction<T> for Result<T, kube::Error> {
    fn with_action(self, action: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Api { action: action(), source: Box::new(source) })
    }
}

/// An error and its causes as one sentence, without causes that the sentence already contains.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        source = cause.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_contains_every_cause_once() {
        let error = anyhow::anyhow!("no such file").context("no token (no such file)").context("no credentials");
        assert_eq!(sentence(error.as_ref()), "no credentials: no token (no such file)");
        let error = anyhow::anyhow!("refused").context("the API server does not answer");
        assert_eq!(sentence(error.as_ref()), "the API server does not answer: refused");
    }
}
