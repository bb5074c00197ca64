//! A run from beginning to end in one process: plan → embed every shard → finalize.
//!
//! In a cluster the same three stages are processes of their own; what passes from one to the next is only what lies
//! in the output store.

use crds::contract::{FinalizeResult, Stage};

use crate::{
    error::{Result, StageError},
    stage::{self, Run},
};

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// The result, as the summaries say it.
    pub result: FinalizeResult,
    /// Whether the store already held all of it.
    pub already_complete: bool,
}

/// A failure and where it happened.
#[derive(Debug)]
pub struct Failed {
    /// The stage.
    pub stage: Stage,
    /// The shard, in the embed stage.
    pub shard: Option<u32>,
    /// Why.
    pub error: StageError,
}

/// Executes a run.
pub fn run(run: &Run, shard_size: u64) -> Result<Outcome, Failed> {
    let at = |stage: Stage, shard: Option<u32>| move |error: StageError| Failed { stage, shard, error };
    let plan = stage::plan(run, shard_size).map_err(at(Stage::Plan, None))?;
    if let Some(result) = plan.complete {
        return Ok(Outcome { result, already_complete: true });
    }
    for shard in 0..plan.shards {
        stage::embed(run, shard).map_err(at(Stage::Embed, Some(shard)))?;
    }
    let result = stage::finalize(run).map_err(at(Stage::Finalize, None))?;
    Ok(Outcome { result, already_complete: false })
}
