//! Why a spec cannot be resolved.

use crate::v1alpha1::ModelSourceError;

/// Why a spec cannot be resolved to a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A model URI that has none of the known forms.
    #[error("{field}: {source}")]
    Model {
        /// The path of the field.
        field: String,
        /// What is wrong with the URI.
        source: ModelSourceError,
    },
    /// A volume that this process cannot locate.
    #[error("{field}: {message}")]
    Volume {
        /// The path of the field.
        field: String,
        /// What is wrong and what to do.
        message: String,
    },
}
