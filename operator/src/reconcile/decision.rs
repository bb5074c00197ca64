//! The next step of a run, as data.

use crds::contract::{FinalizeResult, Stage};

/// The next step of a run. Job names are those of Jobs in the namespace of the run.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The spec is invalid or not implemented yet.
    Reject(Blocked),
    /// The run waits for a change outside of it.
    Wait(Blocked),
    /// Delete these Jobs of other revisions first.
    Retire(Vec<String>),
    /// Suspend these Jobs; the list may be empty.
    Suspend(Vec<String>),
    /// Resume these suspended Jobs.
    Resume(Vec<String>),
    /// Create a Job.
    Create(Step),
    /// A complete Job of this stage left no result, or finalize found that the stage has to be done again: delete these
    /// Jobs, a later reconciliation creates them again.
    Redo(Stage, Vec<String>),
    /// The Job of this stage is active.
    Track(Stage),
    /// The revision is complete.
    Succeed(Box<FinalizeResult>, Success),
    /// The revision failed.
    Fail(RunFailure),
    /// The revision ended in an earlier reconciliation: only clean up.
    Keep(Leftovers),
}

/// A Job to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its stage.
    pub stage: Stage,
    /// Its completions: the number of shards in the embed stage, else 1.
    pub completions: u32,
    /// The number of chunks in the plan; 0 if there is no plan yet.
    pub chunks: u64,
}

/// Why a run cannot continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The reason of the condition.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// How a revision became complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Success {
    /// This run computed it.
    Computed,
    /// The output store already held it.
    AlreadyUpToDate,
}

/// Why a revision failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFailure {
    /// The stage that failed.
    pub stage: Stage,
    /// The reason of the condition.
    pub reason: String,
    /// One sentence for people.
    pub message: String,
}

/// The clean-up after a revision that ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Jobs to delete: active ones, and those of revisions that the history no longer lists.
    pub delete: Vec<String>,
    /// Jobs whose `ttlSecondsAfterFinished` has to be set, and the value.
    pub expire: Vec<(String, i32)>,
}
