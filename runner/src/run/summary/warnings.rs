//! The warnings of a summary.

use std::collections::BTreeSet;

use crds::summary::RerankRun;

use crate::{plan::PlannedCollection, process::message::first_few};

/// Ids of relevant chunks that the collection does not have.
pub(super) fn unknown_ids(ids: &BTreeSet<String>) -> Option<String> {
    let ids: Vec<String> = ids.iter().cloned().collect();
    (!ids.is_empty()).then(|| {
        format!("{} relevant id(s) of the queries are not chunks of the collection: {}", ids.len(), first_few(&ids))
    })
}

/// A collection with fewer chunks than `topK`.
pub(super) fn few_chunks(planned: &PlannedCollection, rerank: &RerankRun) -> Option<String> {
    (rerank.queries > 0 && planned.chunks < u64::from(rerank.top_k)).then(|| {
        format!(
            "collection {}: topK is {}, but the collection has only {} chunks",
            planned.name, rerank.top_k, planned.chunks
        )
    })
}

/// Files with an unknown extension.
pub(super) fn ignored_files(planned: &PlannedCollection) -> Option<String> {
    let ignored = &planned.ignored_files;
    (!ignored.is_empty()).then(|| {
        format!(
            "collection {}: skipped {} file(s) with unknown extensions: {}",
            planned.name,
            ignored.len(),
            first_few(ignored)
        )
    })
}

/// Entries of the source that cannot be read.
pub(super) fn left_out(planned: &PlannedCollection) -> Option<String> {
    let left_out = &planned.left_out;
    (!left_out.is_empty()).then(|| {
        format!(
            "collection {}: left out {} file(s) that cannot be read: {}",
            planned.name,
            left_out.len(),
            first_few(left_out)
        )
    })
}
