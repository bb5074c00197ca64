//! The commit marker as a file: its fields, and its versions.

use crds::{
    contract::FailureReason,
    summary::{DensePass, ExportedFile, FusionRun, ModelFallback, SparsePass},
};
use serde::{Deserialize, Serialize};

use crate::{
    device::{DeviceUse, Trace},
    process::error::{Result, StageError},
    retrieval::candidate_file::CandidateFile,
};

/// `_COMMITTED.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// [`Commit::VERSION`], or an older one that this runner reads.
    pub version: u32,
    /// Its generation, from 1. Markers of version 2 have none: they are the first.
    #[serde(default = "first_generation")]
    pub generation: u32,
    /// The index of the shard in the plan.
    pub shard: u32,
    /// The collection.
    pub collection: String,
    /// The path of the committed file, relative to the root of the output. Its name is the sha256 of its bytes; in
    /// version 2 it is a name of the attempt.
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
    /// The version of the file that this runner writes.
    pub const VERSION: u32 = 3;
    /// The oldest version that this runner reads: that of release 0.1.0. A field that was added since has a default.
    pub const OLDEST_VERSION: u32 = 2;

    /// The bytes of the file.
    pub fn to_json(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a marker has string keys and finite numbers");
        bytes.push(b'\n');
        bytes
    }

    /// Reads a marker; `uri` is its name in messages.
    ///
    /// # Errors
    /// If it is no marker of a version that this runner reads. The message has a remedy.
    pub fn parse(bytes: &[u8], uri: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        let invalid = |message: String| StageError::new(FailureReason::InvalidConfiguration, message);
        let version = value["version"].as_u64().unwrap_or(0);
        if version > u64::from(Self::VERSION) {
            let writer = value["runner_version"].as_str().unwrap_or("unknown");
            return Err(invalid(format!(
                "{uri} is a commit marker of version {version}, written by runner {writer}; this is runner {}, which reads \
                 up to version {}: use the image of that release or a later one, or delete {uri} to embed this shard again",
                env!("CARGO_PKG_VERSION"),
                Self::VERSION
            )));
        }
        if version < u64::from(Self::OLDEST_VERSION) {
            return Err(invalid(format!(
                "{uri} is not a commit marker of version {} to {}; delete it to embed this shard again",
                Self::OLDEST_VERSION,
                Self::VERSION
            )));
        }
        serde_json::from_value(value).map_err(|error| {
            invalid(format!("{uri} is not a valid commit marker; delete it to embed this shard again")).caused_by(error)
        })
    }

    /// The committed files: the rows, and the candidates if there are queries.
    pub fn files(&self) -> impl Iterator<Item = CommittedFile<'_>> {
        let rows = CommittedFile { path: &self.file, bytes: Some(self.bytes), sha256: Some(&self.sha256) };
        let candidates = self.candidates.iter().map(|file| CommittedFile {
            path: &file.path,
            bytes: file.bytes,
            sha256: file.sha256.as_deref(),
        });
        std::iter::once(rows).chain(candidates)
    }

    /// Whether both markers name the same files.
    pub fn names_the_files_of(&self, other: &Self) -> bool {
        self.files().map(|file| file.path).eq(other.files().map(|file| file.path))
    }

    /// The models that the shard has no vectors of, because they are optional and failed.
    pub fn missing_models(&self) -> impl Iterator<Item = &ModelFallback> {
        let has_sparse = |name: &str| self.sparse.iter().any(|pass| pass.model == name && pass.model_chunks > 0);
        let sparse = self.sparse_fallbacks.iter().filter(move |fallback| !has_sparse(&fallback.model));
        self.dense_fallbacks.iter().chain(sparse)
    }

    /// Whether the shard has vectors that this model computed.
    pub fn has_model(&self, name: &str) -> bool {
        self.dense.iter().any(|pass| pass.model == name)
            || self.sparse.iter().any(|pass| pass.model == name && pass.model_chunks > 0)
    }
}

fn first_generation() -> u32 {
    1
}

/// A file that a marker names.
#[derive(Clone, Copy, Debug)]
pub struct CommittedFile<'a> {
    /// Its path, relative to the root of the output.
    pub path: &'a str,
    /// Its size; version 2 does not have that of the candidates.
    pub bytes: Option<u64>,
    /// Its sha256, in hexadecimal; version 2 does not have that of the candidates.
    pub sha256: Option<&'a str>,
}

impl<'a> CommittedFile<'a> {
    /// A file that a summary lists.
    pub fn of(file: &'a ExportedFile) -> Self {
        Self { path: &file.path, bytes: Some(file.bytes), sha256: Some(&file.sha256) }
    }
}
