//! The commits of all shards of a plan, checked before anything is made of them.
//!
//! A shard that cannot be used is superseded, so that the next embed stage computes it again, and the survey fails with
//! [`FailureReason::ShardsSuperseded`]. That ends: a shard is superseded a few times at most.

use std::collections::BTreeSet;

use crds::{contract::FailureReason, identity::Revision, summary::ModelFallback};

use super::{
    check::{Depth, defect},
    generation::{Cause, Generation, supersede},
    marker::Commit,
};
use crate::{
    plan::Plan,
    process::{
        error::{Result, StageError},
        message::first_few,
    },
    store::Store,
};

/// How often a shard whose files are damaged is embedded again.
const DAMAGED_RETRIES: usize = 2;
/// How often a shard is embedded again for a model that was left out.
const MODEL_RETRIES: usize = 1;

/// The commits of all shards, in the order of the plan.
///
/// # Errors
/// [`FailureReason::ShardsMissing`] if shards are not committed. [`FailureReason::ShardsSuperseded`] if shards are to be
/// embedded again: a file is missing or damaged, or an optional model was left out that other shards have. If that happens
/// to a shard again and again, `StoreUnavailable` or `InvalidModel`. Also if the store fails.
pub fn survey(store: &Store, revision: &Revision, plan: &Plan, depth: Depth) -> Result<Vec<Commit>> {
    let mut commits = Vec::with_capacity(plan.shards.len());
    let (mut missing, mut again) = (Vec::new(), Vec::new());
    for (index, shard) in (0..).zip(&plan.shards) {
        let generation = Generation::of(store, revision, &shard.collection, index)?;
        let place = (shard.collection.as_str(), index, generation.number);
        let Some(commit) = generation.commit.as_ref() else {
            if generation.is_torn {
                supersede(store, revision, place, Cause::Torn, "its marker is not whole")?;
                again.push(format!("shard {index} has a marker that is not whole"));
            } else if let Some(last) = generation.superseded.last() {
                again.push(format!("shard {index} was superseded: {}", last.message));
            } else {
                missing.push(index.to_string());
            }
            continue;
        };
        if let Some(defect) = defect(store, commit, depth)? {
            if generation.superseded_for(Cause::FileDamaged) >= DAMAGED_RETRIES {
                let message = format!(
                    "shard {index} was embedded {} times, and again {defect}: check the volume and what deletes or changes \
                     its files, then run again",
                    DAMAGED_RETRIES + 1
                );
                return Err(StageError::new(FailureReason::StoreUnavailable, message));
            }
            supersede(store, revision, place, Cause::FileDamaged, &defect)?;
            again.push(format!("shard {index}: {defect}"));
            continue;
        }
        commits.push((generation, index));
    }
    supersede_left_out_models(store, revision, &commits, &mut again)?;
    if !again.is_empty() {
        let message = format!(
            "{} of {} shards are to be embedded again: {}; run the embed stage for them",
            again.len(),
            plan.shards.len(),
            first_few(&again)
        );
        return Err(StageError::new(FailureReason::ShardsSuperseded, message));
    }
    if !missing.is_empty() {
        let message = format!(
            "{} of {} shards are not committed: {}; run the embed stage for them first",
            missing.len(),
            plan.shards.len(),
            first_few(&missing)
        );
        return Err(StageError::new(FailureReason::ShardsMissing, message));
    }
    Ok(commits.into_iter().filter_map(|(generation, _)| generation.commit).collect())
}

/// Supersedes the shards that lack an optional model which other shards have.
///
/// # Errors
/// [`FailureReason::InvalidModel`] if a shard was tried again for that and lacks a model still; also if the store fails.
fn supersede_left_out_models(
    store: &Store,
    revision: &Revision,
    generations: &[(Generation, u32)],
    again: &mut Vec<String>,
) -> Result<()> {
    let commits = || generations.iter().filter_map(|(generation, _)| generation.commit.as_ref());
    let left_out: BTreeSet<&str> =
        commits().flat_map(Commit::missing_models).map(|fallback| fallback.model.as_str()).collect();
    let elsewhere: BTreeSet<&str> =
        left_out.into_iter().filter(|model| commits().any(|commit| commit.has_model(model))).collect();
    for (generation, index) in generations {
        let Some(commit) = &generation.commit else { continue };
        let fallback = commit.missing_models().find(|fallback| elsewhere.contains(fallback.model.as_str()));
        let Some(ModelFallback { model, message, .. }) = fallback else { continue };
        if generation.superseded_for(Cause::ModelLeftOut) >= MODEL_RETRIES {
            let message = format!(
                "model {model} was left out of shard {index}, also when that was tried again, and other shards have it: \
                 {message}; fix the model and run again with EMBEDRUN_RETRY_FALLBACKS=true, which embeds only the shards \
                 without it, or remove it from spec.models"
            );
            return Err(StageError::new(FailureReason::InvalidModel, message));
        }
        let message = format!("model {model} was left out, which other shards have: {message}");
        let place = (commit.collection.as_str(), *index, generation.number);
        supersede(store, revision, place, Cause::ModelLeftOut, &message)?;
        again.push(format!("shard {index}: {message}"));
    }
    Ok(())
}
