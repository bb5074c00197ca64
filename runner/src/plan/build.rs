//! Builds a plan: reads the sources once, counts and cuts their chunks, and checks that ids are unique.

use std::{
    collections::{BTreeMap, HashSet},
    ops::ControlFlow,
};

use crds::contract::{CollectionConfig, FailureReason, RunnerConfig};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::{
    changes::planned_file,
    document::{PLAN_VERSION, Plan, PlannedCollection},
    headings::Headings,
    shard::{Position, Shard},
    slicer::Slicer,
};
use crate::{
    config::toggles::Toggles,
    process::{
        error::{Result, StageError},
        interrupt::Interrupt,
        message::first_few,
        progress::Progress,
    },
    source::{Chunk, Listing, Source, SourceRecord},
    store::ListedFile,
};

/// The largest number of indices of an Indexed Job in Kubernetes.
const MAX_SHARDS: usize = 100_000;

impl Plan {
    /// Reads the sources and builds the plan. The caller fills in the duration, the commits and files of models, the digest of
    /// the queries and the time.
    ///
    /// # Errors
    /// If a source cannot be read, has no text or has duplicate ids, or there are more than 100,000 shards.
    pub fn build(
        config: &RunnerConfig,
        toggles: &Toggles,
        shard_size: u64,
        interrupt: &Interrupt,
        progress: &Progress,
    ) -> Result<Self> {
        let mut plan = Self {
            version: PLAN_VERSION,
            revision: config.revision.clone(),
            identity_sha256: Some(config.identity_sha256.clone()).filter(|sha256| !sha256.is_empty()),
            toggles: toggles.of_content(config),
            created_at: Timestamp::now().to_string(),
            runner_version: env!("CARGO_PKG_VERSION").into(),
            shard_size,
            seconds: 0.0,
            commits: BTreeMap::new(),
            models: BTreeMap::new(),
            queries_sha256: None,
            collections: Vec::with_capacity(config.collections.len()),
            shards: Vec::new(),
        };
        for collection in &config.collections {
            let source = Source::open(collection, toggles.limits, interrupt)?;
            let planned = plan_collection(collection, &source, shard_size, &mut plan.shards, (interrupt, progress))?;
            plan.collections.push(planned);
        }
        if plan.shards.len() > MAX_SHARDS {
            let message = format!(
                "spec.execution.shardSize {shard_size} results in {} shards, more than the limit of {MAX_SHARDS}: raise spec.execution.shardSize",
                plan.shards.len()
            );
            return Err(StageError::new(FailureReason::InvalidConfiguration, message));
        }
        Ok(plan)
    }
}

fn plan_collection(
    collection: &CollectionConfig,
    source: &Source,
    shard_size: u64,
    shards: &mut Vec<Shard>,
    (interrupt, progress): (&Interrupt, &Progress),
) -> Result<PlannedCollection> {
    let listing = source.list()?;
    let mut slicer = Slicer::new(&collection.name, shard_size);
    let mut ids = HashSet::new();
    let mut headings = Headings::default();
    let mut files = Vec::with_capacity(listing.files.len());
    for (index, listed) in listing.files.iter().enumerate() {
        let mut file = planned_file(source, listed)?;
        let _ = source.visit(&listed.path, 0, &mut |record: SourceRecord<'_>| {
            interrupt.check()?;
            let position = Position { file: index, record: record.location.record };
            match record.chunk {
                None => {
                    file.skipped += 1;
                    slicer.skip(position);
                }
                Some(chunk) => {
                    if !ids.insert(short_hash(&chunk.id)) {
                        return Err(duplicate_id(source, &listing.files, &chunk, &record.location.to_string()));
                    }
                    file.chunks += 1;
                    slicer.push(position, &chunk);
                    headings.sample(&chunk.metadata);
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
            "skipped files with unknown extensions: {}",
            first_few(&listing.ignored)
        );
    }
    if !listing.left_out.is_empty() {
        tracing::warn!(
            collection = collection.name,
            files = listing.left_out.len(),
            "left out what cannot be read: {}",
            first_few(&listing.left_out)
        );
    }
    let skipped = files.iter().map(|file| file.skipped).sum();
    let chunks = files.iter().map(|file| file.chunks).sum();
    if chunks == 0 {
        return Err(empty_collection(collection, files.len(), skipped, &listing));
    }
    shards.extend(slicer.finish());
    Ok(PlannedCollection {
        name: collection.name.clone(),
        chunks,
        skipped,
        files,
        ignored_files: listing.ignored,
        left_out: listing.left_out,
        headings: headings.finish(),
    })
}

fn short_hash(id: &str) -> [u8; 16] {
    Sha256::digest(id.as_bytes())[..16].try_into().expect("a sha256 has 32 bytes")
}

/// The error of a duplicate id, with both locations. Only hashes are in memory, so the sources are read again to find the
/// first location.
fn duplicate_id(source: &Source, files: &[ListedFile], chunk: &Chunk, second: &str) -> StageError {
    let mut first = None;
    for file in files {
        let visited = source.visit(&file.path, 0, &mut |record: SourceRecord<'_>| {
            if record.chunk.as_ref().is_some_and(|earlier| earlier.id == chunk.id) {
                first = Some(record.location.to_string());
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        });
        if first.is_some() || visited.is_err() {
            break;
        }
    }
    let first = first.unwrap_or_else(|| "an earlier record".into());
    StageError::new(
        FailureReason::DuplicateId,
        format!("duplicate id {:?}: first in {first}, again in {second}; ids must be unique in a collection", chunk.id),
    )
}

fn empty_collection(collection: &CollectionConfig, files: usize, skipped: u64, listing: &Listing) -> StageError {
    let ignored = &listing.ignored;
    let CollectionConfig { name, source, format, .. } = collection;
    let message = if files > 0 {
        format!(
            "collection {name:?} has no text: {} has {files} file(s) with {skipped} record(s), all without text",
            source.uri
        )
    } else if ignored.is_empty() {
        format!("collection {name:?} is empty: no files in {} ({})", source.uri, source.path)
    } else {
        format!(
            "collection {name:?} is empty: format {format:?} reads .json, .jsonl, .ndjson, .md, .markdown and .txt, \
             {} has only {}",
            source.uri,
            first_few(ignored)
        )
    };
    let message = match &listing.left_out[..] {
        [] => message,
        left_out => format!("{message}; left out: {}", first_few(left_out)),
    };
    StageError::new(FailureReason::EmptyCollection, message)
}
