//! The stored result of a complete revision, and its gate.

use crds::{
    contract::{FailureReason, FinalizeResult},
    layout,
    summary::{GateOutcome, ProcessingSummary},
};

use super::{
    Run, planned,
    summary::{self, StoredSummary},
};
use crate::{
    config::toggles,
    process::error::{Result, StageError},
};

/// The stored result of a complete revision; `None` if the revision is not complete.
///
/// # Errors
/// If a summary is missing or cannot be read, other toggles made the revision, or the gate rejected it.
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
        let stored = summary::read(&run.store, &path)?.ok_or_else(|| {
            let message = format!(
                "revision {revision} is complete, but {} is missing: change spec.rerunToken to compute it again",
                run.store.uri_of(&path)
            );
            StageError::new(FailureReason::StoreUnavailable, message)
        })?;
        collections.push(stored);
    }
    if let Some(error) = gate_failure(run, &whole.summary, &collections) {
        return Err(error);
    }
    Ok(Some(summary::result(&run.config, &whole, &collections)))
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
            Some(format!(
                "collection {}: {} is {:.4}{}{}",
                stored.summary.collection.as_deref().unwrap_or_default(),
                gate.metric,
                gate.value,
                minimum.unwrap_or_default(),
                previous.unwrap_or_default()
            ))
        })
        .collect();
    let reasons = if reasons.is_empty() {
        "no metric was measured, because no collection has a chunk that a query marks as relevant".to_owned()
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
