//! `plan.json`: the immutable list of the shards of a revision.

use std::collections::BTreeMap;

use crds::{
    contract::{FailureReason, Place},
    identity::Revision,
    summary::ToggleResolution,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{model_files::ModelFiles, shard::Shard, slicer::SliceDigest};
use crate::{
    hub,
    process::error::{Result, StageError},
};

/// The version of `plan.json` that this runner writes. It also reads version 1, which has no identity, no toggles, no
/// sizes and times of files, and digests of shards without metadata.
pub const PLAN_VERSION: u32 = 2;

/// `plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`], or 1 in plans of earlier releases.
    pub version: u32,
    /// The revision.
    pub revision: Revision,
    /// The sha256 of the canonical identity of the run, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_sha256: Option<String>,
    /// The time of its creation, RFC 3339, UTC.
    pub created_at: String,
    /// The version of the runner that created it.
    pub runner_version: String,
    /// The largest number of chunks in a shard.
    pub shard_size: u64,
    /// The duration of reading the sources, in seconds.
    pub seconds: f64,
    /// The commits of the hub models, by the name of the model: a branch may move while shards are embedded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commits: BTreeMap<String, String>,
    /// The toggles that change the content of the output, with the layer that set each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub toggles: Vec<ToggleResolution>,
    /// The settings files of the models, by kind and name, as in `dense-minilm`: a later stage that reads others fails.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, ModelFiles>,
    /// The sha256 of the file of queries, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_sha256: Option<String>,
    /// The collections, in the order of the spec.
    pub collections: Vec<PlannedCollection>,
    /// The shards; a shard's index is its place in this list.
    pub shards: Vec<Shard>,
}

/// A collection as it was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCollection {
    /// Its name.
    pub name: String,
    /// Chunks to embed.
    pub chunks: u64,
    /// Records without text.
    pub skipped: u64,
    /// Its files, in the order in which they are read.
    pub files: Vec<PlannedFile>,
    /// Files with unknown extensions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_files: Vec<String>,
    /// Entries that cannot be read, each with the reason: links out of the source, FIFOs, names that are not UTF-8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// The probe queries of the collection if no queries are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
}

/// A file as it was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// Its path from the root of the source.
    pub path: String,
    /// Chunks to embed.
    pub chunks: u64,
    /// Records without text.
    pub skipped: u64,
    /// Its size when it was listed, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// When it was last modified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// The sha256 of its bytes in hexadecimal, if its time means nothing: a ConfigMap is written anew for every pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl Plan {
    /// The bytes of `plan.json`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a plan has string keys and finite numbers");
        text.push(b'\n');
        text
    }

    /// Reads `plan.json`; `uri` is its name in messages.
    ///
    /// # Errors
    /// If the bytes are not a plan, or are a plan of another version or revision.
    pub fn parse(bytes: &[u8], uri: &str, revision: &Revision) -> Result<Self> {
        let unusable = |message: String| StageError::new(FailureReason::InvalidConfiguration, message);
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| unusable(format!("{uri} is not a plan")).caused_by(error))?;
        if !value["version"].as_u64().is_some_and(|version| (1..=PLAN_VERSION.into()).contains(&version)) {
            let message = format!(
                "{uri} has version {}, this runner reads versions up to {PLAN_VERSION}: finish the revision with the runner \
                 version that started it, or change spec.rerunToken",
                value["version"]
            );
            return Err(unusable(message));
        }
        let plan: Self =
            serde_json::from_value(value).map_err(|error| unusable(format!("{uri} is not a plan")).caused_by(error))?;
        if plan.revision != *revision {
            return Err(unusable(format!("{uri} is the plan of revision {}, not of {revision}", plan.revision)));
        }
        Ok(plan)
    }

    /// An empty digest of the kind that the shards of this plan have.
    pub fn slice_digest(&self) -> SliceDigest {
        if self.version == 1 { SliceDigest::without_metadata() } else { SliceDigest::default() }
    }

    /// The number of chunks in the plan.
    pub fn chunks(&self) -> u64 {
        self.collections.iter().map(|collection| collection.chunks).sum()
    }

    /// The collection of this name.
    pub fn collection(&self, name: &str) -> Option<&PlannedCollection> {
        self.collections.iter().find(|collection| collection.name == name)
    }

    /// The source of a model; a hub model is pinned to the planned commit.
    pub fn pinned(&self, model: &str, source: &Place) -> Place {
        self.commits.get(model).map_or_else(|| source.clone(), |commit| hub::pinned(source, commit))
    }

    /// The shards of a collection with their indices.
    pub fn shards_of<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = (u32, &'a Shard)> {
        (0..).zip(&self.shards).filter(move |(_, shard)| shard.collection == collection)
    }
}
