//! The plan: the immutable list of the shards of a revision.
//!
//! Everything is read once: chunks are counted, sliced into shards, and ids that stand twice are found. Memory holds
//! 16 bytes per chunk for that, and no text.

mod headings;
mod slicer;

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
};

use crds::{
    contract::{CollectionConfig, FailureReason, Place, RunnerConfig},
    identity::Revision,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::{Result, StageError},
    hub,
    interrupt::Interrupt,
    progress::Progress,
    source::{Chunk, Found, Source},
};

use headings::Headings;
pub use slicer::SliceDigest;
use slicer::Slicer;

/// The version of `plan.json`.
pub const PLAN_VERSION: u32 = 1;

/// The most indices that a Job of Kubernetes takes.
const MOST_SHARDS: usize = 100_000;

/// `plan.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The revision.
    pub revision: Revision,
    /// When it was made, RFC 3339, UTC.
    pub created_at: String,
    /// The version of the runner that made it.
    pub runner_version: String,
    /// The largest number of chunks in a shard.
    pub shard_size: u64,
    /// How long it took to read everything.
    pub seconds: f64,
    /// The commits of the models of a hub, by the name of the model: a branch may move while shards are embedded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commits: BTreeMap<String, String>,
    /// The sha256 of the file of queries, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queries_sha256: Option<String>,
    /// The collections, in the order of the spec.
    pub collections: Vec<PlannedCollection>,
    /// The shards; a shard's index is its place in this list.
    pub shards: Vec<Shard>,
}

/// What was found of a collection.
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
    /// Files that no format is known for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_files: Vec<String>,
    /// Headings that the collection is probed with, where no queries are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headings: Vec<String>,
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFile {
    /// Its path from the root of the source.
    pub path: String,
    /// Chunks to embed.
    pub chunks: u64,
    /// Records without text.
    pub skipped: u64,
}

/// A contiguous slice of one collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// The collection.
    pub collection: String,
    /// The number of its first chunk in the collection, from 0.
    pub first_chunk: u64,
    /// How many chunks it has.
    pub chunks: u64,
    /// How many records without text stand among them.
    pub skipped: u64,
    /// Where its first record stands.
    pub start: Position,
    /// The sha256 over the ids and the hashes of the texts, in hexadecimal.
    pub sha256: String,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The index of the file in its collection.
    pub file: usize,
    /// The number of the record in the file, from 0.
    pub record: u64,
}

impl Plan {
    /// Reads the sources and makes the plan; how long that took and the commits of models, the caller fills in.
    pub fn build(config: &RunnerConfig, shard_size: u64, interrupt: &Interrupt, progress: &Progress) -> Result<Self> {
        let mut plan = Self {
            version: PLAN_VERSION,
            revision: config.revision.clone(),
            created_at: Timestamp::now().to_string(),
            runner_version: env!("CARGO_PKG_VERSION").into(),
            shard_size,
            seconds: 0.0,
            commits: BTreeMap::new(),
            queries_sha256: None,
            collections: Vec::with_capacity(config.collections.len()),
            shards: Vec::new(),
        };
        for collection in &config.collections {
            let planned = plan_collection(collection, shard_size, &mut plan.shards, interrupt, progress)?;
            plan.collections.push(planned);
        }
        if plan.shards.len() > MOST_SHARDS {
            let message = format!(
                "spec.execution.shardSize {shard_size} makes {} shards, at most {MOST_SHARDS} are possible: raise it",
                plan.shards.len()
            );
            return Err(StageError::new(FailureReason::InvalidConfiguration, message));
        }
        Ok(plan)
    }

    /// The bytes of `plan.json`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a plan has string keys and finite numbers");
        text.push(b'\n');
        text
    }

    /// Reads `plan.json`; `uri` is its name in messages.
    pub fn parse(bytes: &[u8], uri: &str, revision: &Revision) -> Result<Self> {
        let unusable = |message: String| StageError::new(FailureReason::InvalidConfiguration, message);
        let value: serde_json::Value =
            serde_json::from_slice(bytes).map_err(|error| unusable(format!("{uri} is no plan")).caused_by(error))?;
        if value["version"] != PLAN_VERSION {
            let message = format!(
                "{uri} has version {}, this runner reads version {PLAN_VERSION}: finish the revision with the runner \
                 that began it, or change spec.rerunToken",
                value["version"]
            );
            return Err(unusable(message));
        }
        let plan: Self =
            serde_json::from_value(value).map_err(|error| unusable(format!("{uri} is no plan")).caused_by(error))?;
        if plan.revision != *revision {
            return Err(unusable(format!("{uri} is the plan of revision {}, not of {revision}", plan.revision)));
        }
        Ok(plan)
    }

    /// Chunks in the plan.
    pub fn chunks(&self) -> u64 {
        self.collections.iter().map(|collection| collection.chunks).sum()
    }

    /// What was found of a collection.
    pub fn collection(&self, name: &str) -> Option<&PlannedCollection> {
        self.collections.iter().find(|collection| collection.name == name)
    }

    /// Where a model is: one of a hub at the commit that was planned.
    pub fn pinned(&self, model: &str, source: &Place) -> Place {
        self.commits.get(model).map_or_else(|| source.clone(), |commit| hub::pinned(source, commit))
    }

    /// The shards of a collection with their indices.
    pub fn shards_of<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = (u32, &'a Shard)> {
        (0..).zip(&self.shards).filter(move |(_, shard)| shard.collection == collection)
    }
}

fn plan_collection(
    collection: &CollectionConfig,
    shard_size: u64,
    shards: &mut Vec<Shard>,
    interrupt: &Interrupt,
    progress: &Progress,
) -> Result<PlannedCollection> {
    let source = Source::open(collection)?;
    let listing = source.list()?;
    let mut slicer = Slicer::new(&collection.name, shard_size);
    let mut ids = HashSet::new();
    let mut headings = Headings::default();
    let mut files = Vec::with_capacity(listing.files.len());
    for (index, path) in listing.files.iter().enumerate() {
        let mut file = PlannedFile { path: path.clone(), chunks: 0, skipped: 0 };
        let _ = source.visit(path, 0, &mut |found: Found<'_>| {
            interrupt.check()?;
            let position = Position { file: index, record: found.spot.record };
            match found.chunk {
                None => {
                    file.skipped += 1;
                    slicer.skip(position);
                }
                Some(chunk) => {
                    if !ids.insert(short_hash(&chunk.id)) {
                        return Err(duplicate(&source, &listing.files, &chunk, &found.spot.to_string()));
                    }
                    file.chunks += 1;
                    slicer.push(position, &chunk);
                    headings.see(&chunk.metadata);
                    progress.advance(1);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        files.push(file);
    }
    if !listing.ignored.is_empty() {
        tracing::warn!(
            collection = collection.name,
            files = listing.ignored.len(),
            "files that no format is known for are left out: {}",
            some_of(&listing.ignored)
        );
    }
    let skipped = files.iter().map(|file| file.skipped).sum();
    let chunks = files.iter().map(|file| file.chunks).sum();
    if chunks == 0 {
        return Err(empty(collection, files.len(), skipped, &listing.ignored));
    }
    shards.extend(slicer.finish());
    Ok(PlannedCollection {
        name: collection.name.clone(),
        chunks,
        skipped,
        files,
        ignored_files: listing.ignored,
        headings: headings.finish(),
    })
}

fn short_hash(id: &str) -> [u8; 16] {
    Sha256::digest(id.as_bytes())[..16].try_into().expect("a sha256 has 32 bytes")
}

/// Names both places. Only hashes are remembered, so the first one is looked for again.
fn duplicate(source: &Source, files: &[String], chunk: &Chunk, second: &str) -> StageError {
    let mut first = None;
    for file in files {
        let looked = source.visit(file, 0, &mut |found: Found<'_>| {
            if found.chunk.as_ref().is_some_and(|earlier| earlier.id == chunk.id) {
                first = Some(found.spot.to_string());
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        });
        if first.is_some() || looked.is_err() {
            break;
        }
    }
    let first = first.unwrap_or_else(|| "an earlier record".into());
    StageError::new(
        FailureReason::DuplicateId,
        format!("the id {:?} stands twice: {first} and {second}; ids must be unique in a collection", chunk.id),
    )
}

fn empty(collection: &CollectionConfig, files: usize, skipped: u64, ignored: &[String]) -> StageError {
    let CollectionConfig { name, source, format, .. } = collection;
    let message = if files > 0 {
        format!(
            "collection {name:?} has no text: {} holds {files} file(s) with {skipped} record(s) without text",
            source.uri
        )
    } else if ignored.is_empty() {
        format!("collection {name:?} is empty: there is no file in {} ({})", source.uri, source.path)
    } else {
        format!(
            "collection {name:?} is empty: format {format:?} reads .json, .jsonl, .ndjson, .md, .markdown and .txt, \
             {} holds only {}",
            source.uri,
            some_of(ignored)
        )
    };
    StageError::new(FailureReason::EmptyCollection, message)
}

/// The first few names, and how many more.
pub fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
