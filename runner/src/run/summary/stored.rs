//! Summaries in the output store.

use crds::{contract::FailureReason, summary::ProcessingSummary};
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use crate::{
    process::error::{Result, StageError},
    store::Store,
};

/// A summary with the digest of its file.
pub struct StoredSummary {
    /// The summary.
    pub summary: ProcessingSummary,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Writes a summary. Returns the sha256 of its bytes, in hexadecimal.
///
/// # Errors
/// If the store fails.
pub fn write(store: &Store, path: &str, summary: &ProcessingSummary) -> Result<String> {
    let mut bytes = serde_json::to_vec_pretty(summary).expect("a summary has string keys and finite numbers");
    bytes.push(b'\n');
    let sha256 = hex::encode(Sha256::digest(&bytes));
    store.put(path, bytes)?;
    Ok(sha256)
}

/// Reads a summary; `None` if the file does not exist, or is not whole: finalize writes it again.
///
/// # Errors
/// If the store fails, or the file is not a summary of a known version.
pub fn read(store: &Store, path: &str) -> Result<Option<StoredSummary>> {
    let Some(bytes) = store.get(path)? else {
        return Ok(None);
    };
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&bytes) {
        tracing::warn!("{} is not whole: {error}", store.uri_of(path));
        return Ok(None);
    }
    let summary = report::read(&bytes, &store.uri_of(path))
        .map_err(|error| StageError::new(FailureReason::InvalidConfiguration, error.to_string()))?;
    Ok(Some(StoredSummary { summary, sha256: hex::encode(Sha256::digest(&bytes)) }))
}
