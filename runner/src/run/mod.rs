//! A run from beginning to end: plan → embed every shard → finalize.
//!
//! [`run`] executes the three stages in one process. In a cluster each stage is a process of its own, and
//! the stages communicate only through the output store.
//!
//! - [`plan()`] opens the models, reads the sources once and writes the list of shards.
//! - [`embed()`] runs one pass per model over a shard, fuses and writes its rows in the background, and commits the
//!   shard.
//! - [`finalize()`] reranks, measures quality, writes the summaries and publishes the revision.

mod background;
mod changes;
mod columns;
mod commit;
mod context;
mod embed;
mod finalize;
mod models;
pub mod outcome;
mod passes;
mod plan;
mod planned;
mod pointer;
mod publish;
mod rerank;
mod retrieve;
mod shard;
mod summary;

pub use self::{
    commit::Depth,
    context::{Recheck, Run},
    embed::embed,
    finalize::finalize,
    outcome::{RunFailure, RunOutcome},
    plan::plan,
};

use crds::contract::{FailureReason, Stage};

use crate::process::error::StageError;

/// Executes a run. `shard_size` is the largest number of chunks in a shard; it is ignored if the revision already has a
/// plan.
///
/// # Errors
/// If a stage fails; the error names the stage and the shard.
pub fn run(run: &Run, shard_size: u64) -> Result<RunOutcome, RunFailure> {
    let failed = |stage: Stage, shard: Option<u32>| move |error: StageError| RunFailure { stage, shard, error };
    let plan = plan(run, shard_size).map_err(failed(Stage::Plan, None))?;
    if let Some(result) = plan.complete {
        return Ok(RunOutcome { result, already_complete: true });
    }
    loop {
        for shard in 0..plan.shards {
            embed(run, shard).map_err(failed(Stage::Embed, Some(shard)))?;
        }
        match finalize(run) {
            Ok(result) => return Ok(RunOutcome { result, already_complete: false }),
            // Finalize supersedes a shard a few times at most, so this ends.
            Err(error) if error.reason == FailureReason::ShardsSuperseded => {
                tracing::warn!("{}", error.sentence());
            }
            Err(error) => return Err(failed(Stage::Finalize, None)(error)),
        }
    }
}
