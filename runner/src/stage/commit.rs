//! The commit marker of a shard: written last and at most once, it names the attempt that counts.

use crds::{
    contract::FailureReason,
    identity::Revision,
    layout,
    summary::{DensePass, FusionRun, ModelFallback, SparsePass},
};
use serde::{Deserialize, Serialize};

use super::candidates::CandidateFile;
use crate::{
    error::{Result, StageError},
    gpu::{DeviceUse, Trace},
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
    /// The file that counts, from the root of the output.
    pub file: String,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// Records without text that were left out.
    pub skipped: u64,
    /// The dense passes, in the order of the spec.
    pub dense: Vec<DensePass>,
    /// Optional dense models that were left out.
    pub dense_fallbacks: Vec<ModelFallback>,
    /// The sparse passes, in the order of the spec.
    pub sparse: Vec<SparsePass>,
    /// What the sparse models could not do.
    pub sparse_fallbacks: Vec<ModelFallback>,
    /// The fused vector.
    pub fusion: Option<FusionRun>,
    /// The candidates of the queries; none where there are no queries.
    pub candidates: Option<CandidateFile>,
    /// How long finding them took.
    pub retrieve_seconds: f64,
    /// What is on record about the models' turns.
    pub trace: Trace,
    /// The device.
    pub device: DeviceUse,
    /// How long writing took.
    pub export_seconds: f64,
    /// When it was committed, RFC 3339, UTC.
    pub committed_at: String,
    /// The version of the runner.
    pub runner_version: String,
}

impl Commit {
    /// The version of the file that this runner writes and reads.
    pub const VERSION: u32 = 2;

    /// The marker of a shard, if it is committed.
    pub fn load(store: &Store, revision: &Revision, collection: &str, shard: u32) -> Result<Option<Self>> {
        let path = layout::shard_commit(revision, collection, shard);
        let Some(bytes) = store.get(&path)? else {
            return Ok(None);
        };
        let unusable = || {
            let message = format!("{} is no commit marker of version {}", store.uri_of(&path), Self::VERSION);
            StageError::new(FailureReason::InvalidConfiguration, message)
        };
        let commit: Self = serde_json::from_slice(&bytes).map_err(|error| unusable().caused_by(error))?;
        if commit.version == Self::VERSION { Ok(Some(commit)) } else { Err(unusable()) }
    }

    /// Commits the shard, unless another attempt has.
    pub fn write(&self, store: &Store, revision: &Revision) -> Result<PutNew> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a marker has string keys and finite numbers");
        bytes.push(b'\n');
        store.put_new(&layout::shard_commit(revision, &self.collection, self.shard), bytes)
    }
}
