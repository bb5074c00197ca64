//! What is published of a collection: its pointer as it is stored, completed for pointers of earlier releases.

use crds::{
    contract::{FailureReason, RunRef},
    identity::Revision,
    layout,
    pointer::{Claim, Pointer},
};
use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    process::error::{Result, StageError},
    store::Store,
};

/// The pointer of a collection, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The pointer. The claim of one that an earlier release wrote is that of the run that made the revision; `None` if
    /// its summary is gone.
    pub pointer: Pointer,
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// Whether an earlier release wrote it.
    pub is_legacy: bool,
}

/// Reads the pointer of a collection; `None` if nothing is published.
///
/// # Errors
/// If the store fails, or the file is not a pointer.
pub fn read(store: &Store, collection: &str) -> Result<Option<Published>> {
    let path = layout::current(collection);
    let Some(bytes) = store.get(&path)? else { return Ok(None) };
    let mut pointer = Pointer::parse(&bytes).map_err(|error| {
        let message = format!(
            "cannot read {}: {error}; if no release that reads it is in use any more, delete the file and run again",
            store.uri_of(&path)
        );
        StageError::new(FailureReason::OutputConflict, message)
    })?;
    let is_legacy = pointer.claim.is_none();
    if is_legacy {
        pointer.claim = recorded_claim(store, &pointer.revision, collection)?;
    }
    Ok(Some(Published { pointer, bytes, is_legacy }))
}

/// The claim of the run that made a revision, from its summary and its plan; `None` if it has no readable summary.
fn recorded_claim(store: &Store, revision: &Revision, collection: &str) -> Result<Option<Claim>> {
    #[derive(Deserialize)]
    struct Plan {
        created_at: Timestamp,
    }
    let Some(bytes) = store.get(&layout::collection_summary(revision, collection))? else { return Ok(None) };
    let Ok(summary) = report::read(&bytes, "") else { return Ok(None) };
    let plan = store.get(&layout::plan(revision))?.and_then(|bytes| serde_json::from_slice::<Plan>(&bytes).ok());
    let planned_at = plan.map(|plan| plan.created_at).or_else(|| summary.generated_at.parse().ok());
    let run = RunRef { namespace: summary.run.namespace, name: summary.run.name, uid: String::new() };
    Ok(Some(Claim { run, planned_at: planned_at.unwrap_or(Timestamp::UNIX_EPOCH) }))
}
