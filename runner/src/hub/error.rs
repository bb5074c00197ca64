//! Errors of the hub: why a model cannot be fetched, and whether a retry may succeed.

use std::{fmt, io, path::PathBuf, time::Duration};

use crds::contract::{FailureReason, HUB_TOKEN_VARIABLE};

use crate::{process::error::StageError, store::Fault};

/// The reason why a model of a hub cannot be fetched. The message names the model, the repository with its revision, and the
/// file at fault.
#[derive(Debug, thiserror::Error)]
#[error("model {model} ({uri}): {failure}")]
pub struct HubError {
    pub(super) model: String,
    /// `hf://owner/name@revision`.
    pub(super) uri: String,
    pub(super) failure: HubFailure,
}

/// The failure itself, without the names of model and repository.
#[derive(Debug, thiserror::Error)]
pub(super) enum HubFailure {
    /// Status 401 or 403.
    #[error("{resource}: the hub returned {status}: {hint}")]
    Denied { resource: Resource, status: u16, hint: &'static str },
    /// The repository does not exist.
    #[error("the hub has no such repository; check its name (and HF_TOKEN, if it is private)")]
    NoRepository,
    /// The repository lacks the revision.
    #[error("the repository has no such revision; name an existing commit, tag or branch")]
    NoRevision,
    /// The commit lacks a file.
    #[error("the repository has no {file}; choose a revision or a model that has it")]
    MissingFile { file: String },
    /// The only weights are a pickle.
    #[error("{file} is a pickle, which can run code and is rejected; choose a revision with safetensors")]
    Pickle { file: String },
    /// `modules.json` or the index of the weights is not the expected JSON.
    #[error("{file} is not valid; choose another revision, or report it to the model's authors")]
    Invalid {
        file: String,
        #[source]
        source: serde_json::Error,
    },
    /// Status 429.
    #[error("{resource}: the hub returned 429, too many requests{}; retry later, or set HF_TOKEN", wait_hint(*.retry_after))]
    RateLimited { resource: Resource, retry_after: Option<Duration> },
    /// Status 5xx or 408.
    #[error("{resource}: the hub returned {status}; retry later")]
    Failing { resource: Resource, status: u16 },
    /// A status that a hub does not return for these routes.
    #[error("{resource}: the hub returned {status}; check HF_ENDPOINT and the name of the repository")]
    UnexpectedStatus { resource: Resource, status: u16 },
    /// A response that is not a hub's.
    #[error("{resource}: the response is not that of a hub ({why}); check HF_ENDPOINT and proxies")]
    Malformed { resource: Resource, why: &'static str },
    /// No connection.
    #[error("{resource}: the hub cannot be reached; check the network, HF_ENDPOINT and proxies")]
    Unreachable {
        resource: Resource,
        #[source]
        source: reqwest::Error,
    },
    /// The connection ended early.
    #[error("{file}: the connection was cut after {received} of {size} bytes; they are kept, retry to resume")]
    Cut {
        file: String,
        received: u64,
        size: u64,
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The received bytes do not match the hub's metadata.
    #[error("{file}: its {mismatch} than the hub announced; the file was discarded, retry")]
    Corrupt { file: String, mismatch: &'static str },
    /// Requests are disabled, and the cache lacks the revision.
    #[error(
        "HF_HUB_OFFLINE is set and the cache {} lacks the revision; fetch it once without HF_HUB_OFFLINE, or set HF_HOME \
         to a cache that has it",
        cache.display()
    )]
    Offline { cache: PathBuf },
    /// The cache cannot be read or written.
    #[error("cannot use the hub cache {}; set HF_HOME to a folder that can be read and written", path.display())]
    Cache {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file with the token cannot be read.
    #[error("cannot read the token of the hub in {}, which {HUB_TOKEN_VARIABLE} names; check the Secret, or unset the variable", path.display())]
    TokenFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// An environment variable has an invalid value.
    #[error("{variable} must be {expected}")]
    Setting { variable: &'static str, expected: &'static str },
    /// The HTTP client cannot be built, for example for lack of certificates.
    #[error("cannot create the HTTP client; check the certificates of the system, or SSL_CERT_FILE")]
    Client {
        #[source]
        source: reqwest::Error,
    },
    /// The process was interrupted.
    #[error(
        "interrupted before the model was fetched; the bytes in the cache are kept, run the same command to resume"
    )]
    Interrupted,
}

/// The resource that a request is for.
#[derive(Clone, Debug)]
pub(super) enum Resource {
    /// The commit and the files of a revision.
    Revision,
    /// A file.
    File(String),
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision => f.write_str("the revision"),
            Self::File(name) => f.write_str(name),
        }
    }
}

fn wait_hint(retry_after: Option<Duration>) -> String {
    retry_after.map(|wait| format!(", and requests a wait of {} s", wait.as_secs())).unwrap_or_default()
}

impl HubFailure {
    fn reason(&self) -> FailureReason {
        match self {
            Self::Denied { .. } => FailureReason::ModelAccessDenied,
            Self::NoRepository | Self::NoRevision | Self::Offline { .. } => FailureReason::ModelNotFound,
            Self::MissingFile { .. } | Self::Pickle { .. } | Self::Invalid { .. } => FailureReason::InvalidModel,
            Self::RateLimited { .. }
            | Self::Failing { .. }
            | Self::Malformed { .. }
            | Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Corrupt { .. } => FailureReason::HubUnavailable,
            Self::Cache { source, .. } => match Fault::of(source) {
                Fault::Full => FailureReason::StorageFull,
                Fault::Passing => FailureReason::ModelUnavailable,
                _ => FailureReason::InvalidConfiguration,
            },
            Self::TokenFile { source, .. } if Fault::of(source) == Fault::Passing => FailureReason::ModelUnavailable,
            Self::UnexpectedStatus { .. } | Self::TokenFile { .. } | Self::Setting { .. } | Self::Client { .. } => {
                FailureReason::InvalidConfiguration
            }
            Self::Interrupted => FailureReason::Interrupted,
        }
    }
}

impl From<HubError> for StageError {
    fn from(error: HubError) -> Self {
        Self::new(error.failure.reason(), error.to_string()).caused_by(error.failure)
    }
}
