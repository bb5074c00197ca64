//! What the operator saw, read once at the start of a reconciliation. Decisions look at nothing else.

use std::fmt;

use crds::{
    contract::{Failure, RunResult, Stage, StageOutcome},
    identity::Revision,
};
use k8s_openapi::jiff::Timestamp;

/// Everything that was read from the cluster about one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The Jobs of this run that this very object owns, of all revisions.
    pub jobs: Vec<JobState>,
    /// Jobs with the name of a child that this object does not own.
    pub foreign: Vec<ForeignJob>,
    /// Objects that the run mounts and that do not exist.
    pub missing: Vec<MissingVolume>,
}

/// One Job of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// Its unique id.
    pub uid: String,
    /// Its stage.
    pub stage: Stage,
    /// The revision that it computes.
    pub revision: Revision,
    /// Where it stands.
    pub phase: JobPhase,
    /// Whether `spec.suspend` is set.
    pub suspended: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When it was made, or last resumed.
    pub waiting_since: Option<Timestamp>,
    /// Whether a container of one of its pods has ever started.
    pub started: bool,
    /// Completions asked for.
    pub completions: u32,
    /// Completions reached.
    pub succeeded: u32,
    /// Indexes given up.
    pub failed_indexes: String,
    /// `ttlSecondsAfterFinished` as it stands.
    pub ttl: Option<i32>,
    /// What its pod left, once the Job is complete.
    pub result: JobResult,
    /// What the latest failed pods said, by shard.
    pub failures: Vec<Failure>,
    /// Why its pods do not start, in Kubernetes' words.
    pub waiting: Option<String>,
    /// Why its pods are not even made, in Kubernetes' words.
    pub refused: Option<String>,
}

/// Where a Job stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobPhase {
    /// At work, or waiting to be.
    Live,
    /// Every completion was reached.
    Complete,
    /// Given up, with the Job controller's reason and message.
    Failed {
        /// For example `BackoffLimitExceeded`, `PodFailurePolicy`, `FailedIndexes`.
        reason: String,
        /// In the Job controller's words.
        message: String,
    },
}

/// What the pod of a complete Job left behind.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum JobResult {
    /// Nothing: the pod is gone, or the Job is not complete.
    #[default]
    Gone,
    /// A message that is no result of this contract.
    Unreadable(String),
    /// Its result.
    Read(Box<RunResult>),
}

impl JobResult {
    /// The outcome of a stage that was read.
    pub fn outcome(&self) -> Option<&StageOutcome> {
        match self {
            Self::Read(result) => Some(&result.outcome),
            Self::Gone | Self::Unreadable(_) => None,
        }
    }
}

/// A Job that has the name of a child and another owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignJob {
    /// Its name.
    pub name: String,
    /// Whether it is about to vanish: it is being deleted, or belongs to an earlier object of the run's name.
    pub leaving: bool,
}

/// An object that a run mounts and that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingVolume {
    /// The field that names it.
    pub field: String,
    /// `PersistentVolumeClaim` or `ConfigMap`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The key that a ConfigMap lacks; none where the whole object does not exist.
    pub key: Option<String>,
}

impl fmt::Display for MissingVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} names ", self.field)?;
        if let Some(key) = &self.key {
            write!(f, "key {key:?} of ")?;
        }
        write!(f, "{} {:?}", self.kind, self.name)
    }
}

impl World {
    /// The Job of a stage of a revision.
    pub fn job(&self, revision: &Revision, stage: Stage) -> Option<&JobState> {
        self.jobs.iter().find(|job| job.stage == stage && job.revision == *revision)
    }

    /// The Jobs of a revision.
    pub fn jobs_of<'a>(&'a self, revision: &'a Revision) -> impl Iterator<Item = &'a JobState> {
        self.jobs.iter().filter(move |job| job.revision == *revision)
    }
}
