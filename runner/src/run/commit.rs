//! The commit marker of a shard: written last and at most once, it names the attempt that counts.

use crds::{
    contract::FailureReason,
    identity::Revision,
    layout,
    summary::{DensePass, FusionRun, ModelFallback, SparsePass},
};
use serde::{Deserialize, Serialize};

use crate::{
    device::{DeviceUse, Trace},
    process::error::{Result, StageError},
    retrieval::candidate_file::CandidateFile,
    store::{PutNew, Store},
};

/// `_COMMITTED.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// [`Commit::VERSION`].
    pub version: u32,
    /// The index of the shard in the plan.
    pub shard: u32,
    /// The collection.
    pub collection: String,
    /// The path of the committed file, relative to the root of the output.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Records without text that were skipped.
    pub skipped: u64,
    /// The dense passes, in the order of the spec.
    pub dense: Vec<DensePass>,
    /// Optional dense models that were skipped.
    pub dense_fallbacks: Vec<ModelFallback>,
    /// The sparse passes, in the order of the spec.
    pub sparse: Vec<SparsePass>,
    /// The fallbacks of the sparse models.
    pub sparse_fallbacks: Vec<ModelFallback>,
    /// The fused vector.
    pub fusion: Option<FusionRun>,
    /// The file of the queries' candidates; `None` without queries.
    pub candidates: Option<CandidateFile>,
    /// The time of the retrieval in seconds.
    pub retrieve_seconds: f64,
    /// The leases, mitigations and throughput of the passes.
    pub trace: Trace,
    /// The requested and the used device.
    pub device: DeviceUse,
    /// The time of the export in seconds.
    pub export_seconds: f64,
    /// When it was committed, RFC 3339, UTC.
    pub committed_at: String,
    /// The version of the runner.
    pub runner_version: String,
}

impl Commit {
    /// The version of the file that this runner writes and reads.
    pub const VERSION: u32 = 2;

    /// The marker of a shard; `None` if the shard is not committed.
    ///
    /// # Errors
    /// If the marker cannot be read, or has another version.
    pub fn load(store: &Store, revision: &Revision, collection: &str, shard: u32) -> Result<Option<Self>> {
        let path = layout::shard_commit(revision, collection, shard);
        let Some(bytes) = store.get(&path)? else {
            return Ok(None);
        };
        let unusable = || {
            let message = format!(
                "{} is not a commit marker of version {}; if another release wrote it, change spec.rerunToken to embed \
                 again",
                store.uri_of(&path),
                Self::VERSION
            );
            StageError::new(FailureReason::InvalidConfiguration, message)
        };
        let commit: Self = serde_json::from_slice(&bytes).map_err(|error| unusable().caused_by(error))?;
        if commit.version == Self::VERSION { Ok(Some(commit)) } else { Err(unusable()) }
    }

    /// Commits the shard and deletes the leftovers of other attempts. Returns whether another attempt has committed it
    /// before; this attempt's files are deleted then.
    ///
    /// # Errors
    /// If the store fails.
    pub fn write(&self, store: &Store, revision: &Revision) -> Result<bool> {
        let marker = layout::shard_commit(revision, &self.collection, self.shard);
        let mut bytes = serde_json::to_vec_pretty(self).expect("a marker has string keys and finite numbers");
        bytes.push(b'\n');
        let candidates = self.candidates.as_ref().map(|file| file.path.as_str());
        match store.put_new(&marker, bytes) {
            Ok(PutNew::Written) => {}
            Ok(PutNew::Existed) => {
                store.delete(&self.file)?;
                candidates.map(|path| store.delete(path)).transpose()?;
                return Ok(true);
            }
            Err(error) => {
                // The store may be full: free the space.
                let _ = store.delete(&self.file);
                return Err(error);
            }
        }
        let folder = layout::shard(revision, &self.collection, self.shard);
        let keep: Vec<&str> = [self.file.as_str(), marker.as_str()].into_iter().chain(candidates).collect();
        if let Err(error) = store.keep_only(&folder, &keep) {
            tracing::warn!(
                shard = self.shard,
                "cannot delete the leftovers of an earlier attempt: {}",
                error.sentence()
            );
        }
        Ok(false)
    }
}
