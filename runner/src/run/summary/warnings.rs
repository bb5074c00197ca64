//! The warnings of a summary.

use std::collections::BTreeSet;

use crds::{
    summary::{DensePass, GateOutcome, RerankRun},
    v1alpha1::Similarity,
};

use crate::{plan::PlannedCollection, process::message::first_few};

/// Ids of relevant chunks that no collection of the run has.
pub(super) fn unknown_ids(ids: &BTreeSet<String>) -> Option<String> {
    let ids: Vec<String> = ids.iter().cloned().collect();
    (!ids.is_empty()).then(|| {
        format!(
            "{} relevant id(s) of the queries are not chunks of the run and count as not found: {}",
            ids.len(),
            first_few(&ids)
        )
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

/// A maximum drop that could not be checked.
pub(super) fn not_compared(planned: &PlannedCollection, gate: Option<&GateOutcome>) -> Option<String> {
    let why = gate?.not_compared.as_ref()?;
    Some(format!("collection {}: spec.rerank.gate.maximumDrop was not checked: {why}", planned.name))
}

/// A fused vector of models that were not made for a cosine.
pub(super) fn fused_by_cosine(passes: &[DensePass]) -> Option<String> {
    let others = passes.iter().filter(|pass| pass.similarity != Similarity::Cosine);
    let others: Vec<String> = others.map(|pass| format!("{} ({})", pass.model, pass.similarity)).collect();
    (!others.is_empty()).then(|| {
        format!(
            "the fused vector compares all models by cosine, but not all were made for it: {}; set spec.fusion.method to \
             None to use the vectors of the first model as they are",
            first_few(&others)
        )
    })
}
