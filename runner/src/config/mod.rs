//! The configuration of a run: the file that a pod gets from the operator, or a manifest on one machine.

mod manifest;
mod schema;
pub mod toggles;

use std::path::Path;

use crds::{
    contract::{CONTRACT_VERSION, FailureReason, RunnerConfig},
    identity::Revision,
};
use serde::Deserialize;

use crate::process::error::{Result, StageError};

pub use manifest::{LocalVolumes, Manifest, VolumeMapping};

/// An invalid configuration, with the revision that it names.
#[derive(Debug)]
pub struct ConfigError {
    /// The reason.
    pub error: StageError,
    /// The revision; empty if it cannot be read.
    pub revision: Revision,
}

/// Reads the configuration of a pod.
pub fn load(path: &Path) -> Result<RunnerConfig, ConfigError> {
    let bytes = std::fs::read(path).map_err(|error| ConfigError {
        error: invalid(format!("cannot read the configuration {}", path.display())).caused_by(error),
        revision: Revision::from_recorded(""),
    })?;
    parse(&bytes, path)
}

fn parse(bytes: &[u8], path: &Path) -> Result<RunnerConfig, ConfigError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
        #[serde(default)]
        revision: Option<String>,
    }
    let versioned: Option<Versioned> = serde_json::from_slice(bytes).ok();
    let revision = Revision::from_recorded(versioned.as_ref().and_then(|v| v.revision.clone()).unwrap_or_default());
    let version = versioned.map_or(CONTRACT_VERSION, |versioned| versioned.version);
    if version != CONTRACT_VERSION {
        let error = invalid(format!(
            "{} has contract version {version}, this runner reads version {CONTRACT_VERSION}: \
             use the runner image of the operator's release",
            path.display()
        ));
        return Err(ConfigError { error, revision });
    }
    serde_json::from_slice(bytes).map_err(|error| ConfigError {
        error: invalid(format!("{} is not a valid runner configuration", path.display())).caused_by(error),
        revision,
    })
}

fn invalid(message: impl Into<String>) -> StageError {
    StageError::new(FailureReason::InvalidConfiguration, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_rejected_by_name_and_keeps_its_revision() {
        let text = br#"{"version": 7, "revision": "7f3a91c04d", "novelty": 1}"#;
        let rejected = parse(text, Path::new("run.json")).expect_err("another version");
        assert!(rejected.error.sentence().contains("version 7"), "{}", rejected.error.sentence());
        assert_eq!(rejected.revision.as_str(), "7f3a91c04d");
    }

    #[test]
    fn an_invalid_configuration_is_named_with_file_and_line() {
        let rejected = parse(b"{\"version\": 1,\n\"colections\": []}", Path::new("run.json")).expect_err("no config");
        let sentence = rejected.error.sentence();
        assert!(sentence.contains("run.json") && sentence.contains("colections"), "{sentence}");
        assert!(sentence.contains("line 2"), "{sentence}");
    }
}
