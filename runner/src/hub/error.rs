//! Why a model of a hub cannot be had, and whether trying again may help.

use std::{fmt, io, path::PathBuf, time::Duration};

use crds::contract::FailureReason;

use crate::process::error::StageError;

/// The longest that a process waits because the hub asks for it; who starts the process again waits longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Why a model of a hub cannot be had. The message names the model, the repository with its revision, and the file
/// that it is about.
#[derive(Debug, thiserror::Error)]
#[error("model {model} ({uri}): {failure}")]
pub struct HubError {
    pub(super) model: String,
    /// `hf://owner/name@revision`.
    pub(super) uri: String,
    pub(super) failure: HubFailure,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
pub(super) enum HubFailure {
    /// 401 or 403.
    #[error("{what}: the hub answers {status}: {hint}")]
    Denied { what: What, status: u16, hint: &'static str },
    /// There is no such repository.
    #[error("the hub has no such repository; check its name (and HF_TOKEN, if it is private)")]
    NoRepository,
    /// The repository has no such revision.
    #[error("the repository has no such revision; name a commit, a tag or a branch that it has")]
    NoRevision,
    /// The commit lacks a file.
    #[error("the repository has no {file}; choose a revision or a model that has it")]
    Lacks { file: String },
    /// The only weights are a pickle.
    #[error("{file} is a pickle, which can run code and is refused; choose a revision with safetensors")]
    Pickle { file: String },
    /// A list of files cannot be read.
    #[error("{file} is not valid")]
    Invalid {
        file: String,
        #[source]
        source: serde_json::Error,
    },
    /// 429.
    #[error("{what}: the hub answers 429, too many requests{}; try again later, or set HF_TOKEN", asked(*.after))]
    Busy { what: What, after: Option<Duration> },
    /// 5xx, or 408.
    #[error("{what}: the hub answers {status}; try again later")]
    Failing { what: What, status: u16 },
    /// A status that no hub answers.
    #[error("{what}: the hub answers {status}; check HF_ENDPOINT and the name of the repository")]
    Refused { what: What, status: u16 },
    /// An answer that is not a hub's.
    #[error("{what}: the answer is not that of a hub ({why}); check HF_ENDPOINT and proxies")]
    Malformed { what: What, why: &'static str },
    /// No connection.
    #[error("{what}: the hub cannot be reached; check the network, HF_ENDPOINT and proxies")]
    Unreachable {
        what: What,
        #[source]
        source: reqwest::Error,
    },
    /// The connection ended early.
    #[error("{file}: the connection was cut after {have} of {size} bytes; what is there is kept, try again")]
    Cut {
        file: String,
        have: u64,
        size: u64,
        #[source]
        source: Option<reqwest::Error>,
    },
    /// The bytes are not those that the hub promised.
    #[error("{file}: {wrong} than the hub promised; the file is not used, try again")]
    Corrupt { file: String, wrong: &'static str },
    /// The hub must not be asked, and the cache holds nothing.
    #[error(
        "HF_HUB_OFFLINE is set and {} holds no such revision; fetch it once without HF_HUB_OFFLINE, or set HF_HOME to a \
         cache that holds it",
        cache.display()
    )]
    Offline { cache: PathBuf },
    /// The cache cannot be written.
    #[error("cannot write the cache {}; set HF_HOME to a folder that can be written", path.display())]
    Cache {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A variable cannot be used.
    #[error("{variable} must be {expected}")]
    Setting { variable: &'static str, expected: &'static str },
    /// There is no HTTP client without certificates.
    #[error("no connection can be made; check the certificates of the system, or SSL_CERT_FILE")]
    Client {
        #[source]
        source: reqwest::Error,
    },
    /// The process was told to stop.
    #[error("told to stop before the model was fetched; what is there is kept")]
    Interrupted,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// The commit and the files of a revision.
    Revision,
    /// A file.
    File(String),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision => f.write_str("the revision"),
            Self::File(name) => f.write_str(name),
        }
    }
}

fn asked(after: Option<Duration>) -> String {
    after.map(|after| format!(", and asks for {} s of patience", after.as_secs())).unwrap_or_default()
}

impl HubFailure {
    /// How long to wait before the next try, where one may help; `usual` where the hub does not say.
    pub(super) fn wait(&self, usual: Duration) -> Option<Duration> {
        match self {
            Self::Busy { after, .. } => {
                after.map_or(Some(usual), |after| (after <= LONGEST_WAIT).then_some(after.max(usual)))
            }
            Self::Failing { .. } | Self::Unreachable { .. } | Self::Cut { .. } | Self::Corrupt { .. } => Some(usual),
            _ => None,
        }
    }

    fn reason(&self) -> FailureReason {
        match self {
            Self::Denied { .. } => FailureReason::ModelAccessDenied,
            Self::NoRepository | Self::NoRevision | Self::Offline { .. } => FailureReason::ModelNotFound,
            Self::Lacks { .. } | Self::Pickle { .. } | Self::Invalid { .. } => FailureReason::InvalidModel,
            Self::Busy { .. }
            | Self::Failing { .. }
            | Self::Malformed { .. }
            | Self::Unreachable { .. }
            | Self::Cut { .. }
            | Self::Corrupt { .. } => FailureReason::HubUnavailable,
            Self::Cache { source, .. } if is_full(source) => FailureReason::StorageFull,
            Self::Refused { .. } | Self::Cache { .. } | Self::Setting { .. } | Self::Client { .. } => {
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

/// Whether the device or the user's share of it has no space left.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
