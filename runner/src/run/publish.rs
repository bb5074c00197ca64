//! The stored result of a complete revision, and its gate.

use std::collections::BTreeMap;

use crds::{
    contract::{FailureReason, FinalizeResult},
    layout,
    summary::{ExportedFile, GateOutcome, ProcessingSummary},
    v1alpha1::FallbackSource,
};

use super::{
    Run,
    commit::{self, CommittedFile, Depth},
    planned,
    summary::{self, StoredSummary},
};
use crate::{
    config::toggles,
    process::error::{Result, StageError},
};

/// The stored result of a complete revision; `None` if the revision is not complete. It is not complete any more if a
/// summary, or a file that one lists, is gone or damaged, or if models that were left out are to be tried again.
///
/// # Errors
/// If a summary cannot be read, other toggles made the revision, or the gate rejected it.
pub fn complete_result(run: &Run) -> Result<Option<FinalizeResult>> {
    let revision = &run.config.revision;
    let Some(whole) = summary::read(&run.store, &layout::run_summary(revision))? else {
        return Ok(None);
    };
    let made_with = toggles::of_content(&whole.summary.feature_toggles, &run.config);
    if let Some(difference) = toggles::difference(&made_with, &run.toggles.of_content(&run.config)) {
        return Err(planned::other_toggles(run, &difference));
    }
    let mut collections = Vec::with_capacity(whole.summary.collections.len());
    for pointer in &whole.summary.collections {
        let path = layout::collection_summary(revision, &pointer.name);
        let Some(stored) = summary::read(&run.store, &path)? else {
            tracing::warn!(%revision, "the revision was complete, but {} is missing", run.store.uri_of(&path));
            return Ok(None);
        };
        collections.push(stored);
    }
    let has_left_out = !whole.summary.dense_run.fallbacks.is_empty() || lacks_sparse_vectors(&whole.summary);
    if run.recheck.retry_fallbacks && has_left_out {
        tracing::info!(%revision, "the models that were left out are tried again");
        return Ok(None);
    }
    if let Some(error) = gate_failure(run, &whole.summary, &collections) {
        return Err(error);
    }
    if let Some(defect) = defect(run, collections.iter().chain([&whole]), run.recheck.depth)? {
        tracing::warn!(%revision, "the revision was complete, but {defect}");
        return Ok(None);
    }
    Ok(Some(summary::result(&run.config, &whole, &collections)))
}

/// The first file that is gone or damaged of those that summaries list, as a sentence; `None` if all are there.
///
/// # Errors
/// If the store fails.
pub fn defect<'a>(
    run: &Run,
    summaries: impl Iterator<Item = &'a StoredSummary> + Clone,
    depth: Depth,
) -> Result<Option<String>> {
    for StoredSummary { summary, .. } in summaries.clone() {
        if let Some(rankings) = &summary.rerank_run.rankings
            && run.store.size(rankings)?.is_none()
        {
            return Ok(Some(format!("{} is missing", run.store.uri_of(rankings))));
        }
    }
    let files: BTreeMap<&str, &ExportedFile> =
        summaries.flat_map(|stored| &stored.summary.export_run.files).map(|file| (file.path.as_str(), file)).collect();
    commit::first_defect(&run.store, files.into_values().map(CommittedFile::of), depth)
}

/// Whether rows lack the vector of a sparse model that could not be loaded.
fn lacks_sparse_vectors(summary: &ProcessingSummary) -> bool {
    summary.sparse_run.fallback.is_some_and(|fallback| fallback.source == FallbackSource::Load)
}

/// The failure of a revision that the gate rejects; `None` if it passes, or there is no gate.
pub fn gate_failure(run: &Run, whole: &ProcessingSummary, collections: &[StoredSummary]) -> Option<StageError> {
    let rejected = |gate: &&GateOutcome| !gate.passed;
    whole.gate.as_ref().filter(rejected)?;
    let reasons: Vec<String> = collections
        .iter()
        .filter_map(|stored| {
            let gate = stored.summary.gate.as_ref().filter(rejected)?;
            let minimum = gate.minimum.filter(|minimum| gate.value < *minimum);
            let minimum = minimum.map(|minimum| format!(", below the minimum of {minimum}"));
            let previous = gate.previous.zip(gate.maximum_drop);
            let previous = previous.filter(|(previous, drop)| gate.value < previous - drop);
            let previous =
                previous.map(|(previous, drop)| format!(", down from {previous:.4} by more than the allowed {drop}"));
            let unknown = match gate.unknown_relevant {
                0 => String::new(),
                count => format!(" ({count} judged ids are no chunks and count as not found)"),
            };
            Some(format!(
                "collection {}: {} is {:.4}{}{}{unknown}",
                stored.summary.collection.as_deref().unwrap_or_default(),
                gate.metric,
                gate.value,
                minimum.unwrap_or_default(),
                previous.unwrap_or_default()
            ))
        })
        .collect();
    let reasons = if reasons.is_empty() {
        "no metric was measured, because no query marks chunks as relevant".to_owned()
    } else {
        reasons.join("; ")
    };
    let message = format!(
        "{reasons}; readers stay on the published revision; the files of the rejected revision are in {}; see {}",
        run.store.uri_of(&layout::revision(&run.config.revision)),
        run.config.run_summary_uri()
    );
    Some(StageError::new(FailureReason::QualityGate, message))
}
