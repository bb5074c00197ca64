//! The pointers of the run's collections: whether the run may move them, and moving them.
//!
//! The plan stage asks first, so that no shard is embedded for a conflict. The finalize stage asks again, and moves a
//! pointer only over the bytes that it has compared.

use crds::{
    contract::FailureReason,
    layout,
    pointer::{Claim, Conflict},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Run;
use crate::{
    plan::Plan,
    process::error::{Result, StageError},
    retrieval::published::{self, Published},
    store::Replaced,
};

/// The number of attempts to move a pointer that others move at the same time.
const ATTEMPTS: u32 = 20;

/// `plan_time.json`: when a planned revision was last taken up again.
#[derive(Serialize, Deserialize)]
struct PlanTime {
    version: u32,
    planned_at: Timestamp,
}

impl PlanTime {
    const VERSION: u32 = 1;
}

/// Checks that a run with this `claim` may point the readers of all its collections to its revision.
///
/// # Errors
/// `OutputConflict` if it may not; also if the store fails.
pub fn check(run: &Run, claim: &Claim) -> Result<()> {
    for collection in &run.config.collections {
        if let Some(published) = published::read(&run.store, &collection.name)? {
            check_one(run, &collection.name, &published, claim)?;
        }
    }
    Ok(())
}

fn check_one(run: &Run, collection: &str, published: &Published, claim: &Claim) -> Result<()> {
    let Some(conflict) = published.pointer.conflict(&run.config.revision, claim) else { return Ok(()) };
    let path = layout::current(collection);
    let action = match &conflict {
        Conflict::OtherRun(_) => format!(
            "give run {} another spec.output or other names of collections, or delete {path} in the output so that it \
             takes the readers over",
            claim.run
        ),
        Conflict::LaterPlan(..) => {
            format!("readers stay there; to publish revision {}, apply its manifest again", run.config.revision.short())
        }
    };
    let uri = run.store.uri_of(&path);
    let message = format!("cannot publish collection {collection:?}: {uri} is in use: {conflict}; {action}");
    Err(StageError::new(FailureReason::OutputConflict, message))
}

/// The claim of the run to its pointers, with the time at which it last planned the revision.
///
/// # Errors
/// If the store fails, or `plan_time.json` cannot be parsed.
pub fn claim(run: &Run, plan: &Plan) -> Result<Claim> {
    let created_at = plan.created_at.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let path = layout::plan_time(&run.config.revision);
    let again = match run.store.get(&path)? {
        None => created_at,
        Some(bytes) => {
            let time: PlanTime = serde_json::from_slice(&bytes).map_err(|error| {
                let message = format!("{} is not a plan time; delete it", run.store.uri_of(&path));
                StageError::new(FailureReason::InvalidConfiguration, message).caused_by(error)
            })?;
            time.planned_at
        }
    };
    Ok(Claim { run: run.config.run.clone(), planned_at: created_at.max(again) })
}

/// The claim of a run that plans its revision now: later than that of every published revision, also if the clock of
/// another machine is ahead.
///
/// # Errors
/// `OutputConflict` if another run owns a pointer of the run's collections; also if the store fails.
pub fn take_up(run: &Run) -> Result<Claim> {
    let mut claim = Claim { run: run.config.run.clone(), planned_at: Timestamp::now() };
    for collection in &run.config.collections {
        let Some(published) = published::read(&run.store, &collection.name)? else { continue };
        if let Some(current) = &published.pointer.claim {
            let later = current.planned_at.checked_add(SignedDuration::from_micros(1));
            claim.planned_at = claim.planned_at.max(later.unwrap_or(Timestamp::MAX));
        }
        check_one(run, &collection.name, &published, &claim)?;
    }
    Ok(claim)
}

/// Records that the run takes up a revision that was planned before, for the finalize stage.
///
/// # Errors
/// If the store fails.
pub fn record_plan_time(run: &Run, claim: &Claim) -> Result<()> {
    let time = PlanTime { version: PlanTime::VERSION, planned_at: claim.planned_at };
    let mut bytes = serde_json::to_vec(&time).expect("a time has string keys");
    bytes.push(b'\n');
    run.store.put(&layout::plan_time(&run.config.revision), bytes)
}

/// Points the readers of every collection to the run's revision, or of none if one of them is in use by others.
///
/// # Errors
/// `OutputConflict` if the run may not move a pointer; also if the store fails.
pub fn publish(run: &Run, claim: &Claim) -> Result<()> {
    check(run, claim)?;
    run.config.collections.iter().try_for_each(|collection| publish_collection(run, &collection.name, claim))
}

fn publish_collection(run: &Run, collection: &str, claim: &Claim) -> Result<()> {
    let path = layout::current(collection);
    let revision = &run.config.revision;
    for _ in 0..ATTEMPTS {
        let published = published::read(&run.store, collection)?;
        if let Some(published) = &published {
            check_one(run, collection, published, claim)?;
            if is_current(run, published, claim) {
                return Ok(());
            }
        }
        let seen = published.as_ref().map(|published| published.bytes.as_slice());
        match run.store.replace(&path, seen, claim.pointer_to(revision)) {
            Ok(Replaced::Written) => return Ok(()),
            Ok(Replaced::Changed) => {}
            // Readers are where they should be, for example in an output that was restored read-only.
            Err(error) if published.is_some_and(|published| published.pointer.revision == *revision) => {
                tracing::warn!("the claim in {path} is not renewed: {}", error.sentence());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    let message = format!("{} changes all the time: other runs publish the same collection", run.store.uri_of(&path));
    Err(StageError::new(FailureReason::StoreUnavailable, message))
}

/// Whether the pointer already is what a run with this `claim` would write, or a later claim to the same.
fn is_current(run: &Run, published: &Published, claim: &Claim) -> bool {
    let pointer = &published.pointer;
    let is_claimed = pointer
        .claim
        .as_ref()
        .is_some_and(|current| current.run == claim.run && current.planned_at >= claim.planned_at);
    pointer.revision == run.config.revision && is_claimed && !published.is_legacy
}
