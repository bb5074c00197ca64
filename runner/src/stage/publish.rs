//! What readers of the output see: the summaries of a complete revision and the pointers to it.

use crds::{
    contract::{FailureReason, FinalizeResult},
    layout,
    summary::{GateOutcome, ProcessingSummary},
};
use sha2::{Digest, Sha256};

use super::Run;
use crate::{
    error::{Result, StageError},
    summary,
};

/// A summary as it is stored.
pub struct Stored {
    /// What it says.
    pub summary: ProcessingSummary,
    /// The sha256 of its bytes, in hexadecimal.
    pub sha256: String,
}

/// Writes a summary; the answer is the sha256 of its bytes, in hexadecimal.
pub fn write(run: &Run, path: &str, summary: &ProcessingSummary) -> Result<String> {
    let mut bytes = serde_json::to_vec_pretty(summary).expect("a summary has string keys and finite numbers");
    bytes.push(b'\n');
    let sha256 = hex::encode(Sha256::digest(&bytes));
    run.store.put(path, bytes)?;
    Ok(sha256)
}

/// Reads a summary, none where it is not written.
pub fn read(run: &Run, path: &str) -> Result<Option<Stored>> {
    let Some(bytes) = run.store.get(path)? else {
        return Ok(None);
    };
    let summary = report::read(&bytes, &run.store.uri_of(path))
        .map_err(|error| StageError::new(FailureReason::InvalidConfiguration, error.to_string()))?;
    Ok(Some(Stored { summary, sha256: hex::encode(Sha256::digest(&bytes)) }))
}

/// The result of a revision that is complete, none where it is not.
pub fn stored_result(run: &Run) -> Result<Option<FinalizeResult>> {
    let revision = &run.config.revision;
    let Some(whole) = read(run, &layout::run_summary(revision))? else {
        return Ok(None);
    };
    let mut collections = Vec::with_capacity(whole.summary.collections.len());
    for pointer in &whole.summary.collections {
        let path = layout::collection_summary(revision, &pointer.name);
        let stored = read(run, &path)?.ok_or_else(|| {
            let message = format!(
                "revision {revision} is complete, but {} is gone: change spec.rerunToken to compute it again",
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

/// The failure of a revision that the gate keeps readers from.
pub fn gate_failure(run: &Run, whole: &ProcessingSummary, collections: &[Stored]) -> Option<StageError> {
    let refused = |gate: &&GateOutcome| !gate.passed;
    whole.gate.as_ref().filter(refused)?;
    let said: Vec<String> = collections
        .iter()
        .filter_map(|stored| {
            let gate = stored.summary.gate.as_ref().filter(refused)?;
            let minimum = gate.minimum.map(|minimum| format!(", at least {minimum} is asked for"));
            let previous = gate.previous.zip(gate.maximum_drop);
            let previous =
                previous.map(|(previous, drop)| format!(", {previous:.4} before and a drop of {drop} allowed"));
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
    let said = if said.is_empty() {
        "no collection has a chunk that a query calls relevant, so nothing could be measured".to_owned()
    } else {
        said.join("; ")
    };
    let message = format!(
        "{said}; readers stay on the revision that they use, the artifacts are in {}; see {}",
        run.store.uri_of(&layout::revision(&run.config.revision)),
        run.config.run_summary_uri()
    );
    Some(StageError::new(FailureReason::QualityGate, message))
}

/// Points readers to this revision.
pub fn point(run: &Run) -> Result<()> {
    let wanted = format!("{}\n", run.config.revision).into_bytes();
    for collection in &run.config.collections {
        let path = layout::current(&collection.name);
        if run.store.get(&path)?.as_ref() != Some(&wanted) {
            run.store.put(&path, wanted.clone())?;
        }
    }
    Ok(())
}
