//! What a run is told to do: the configuration of a pod, or a manifest on one machine.

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

/// A configuration that cannot be used, with the revision that it names where that can be read.
#[derive(Debug)]
pub struct ConfigError {
    /// Why.
    pub error: StageError,
    /// The revision; empty where it cannot be read.
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
    let found = versioned.map_or(CONTRACT_VERSION, |versioned| versioned.version);
    if found != CONTRACT_VERSION {
        let error = invalid(format!(
            "{} has contract version {found}, this runner reads version {CONTRACT_VERSION}: \
             use the runner image of the operator's release",
            path.display()
        ));
        return Err(ConfigError { error, revision });
    }
    serde_json::from_slice(bytes).map_err(|error| ConfigError {
        error: invalid(format!("{} is no configuration", path.display())).caused_by(error),
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
    fn another_version_is_refused_by_name_and_keeps_its_revision() {
        let text = br#"{"version": 7, "revision": "7f3a91c04d", "novelty": 1}"#;
        let refused = parse(text, Path::new("run.json")).expect_err("another version");
        assert!(refused.error.sentence().contains("version 7"), "{}", refused.error.sentence());
        assert_eq!(refused.revision.as_str(), "7f3a91c04d");
    }

    #[test]
    fn a_file_that_is_no_configuration_is_named_with_the_place() {
        let refused = parse(b"{\"version\": 1,\n\"colections\": []}", Path::new("run.json")).expect_err("no config");
        let sentence = refused.error.sentence();
        assert!(sentence.contains("run.json") && sentence.contains("colections"), "{sentence}");
        assert!(sentence.contains("line 2"), "{sentence}");
    }
}
