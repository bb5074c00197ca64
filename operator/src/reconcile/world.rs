//! The state of the cluster that a decision depends on, read once at the start of a reconciliation.

use std::fmt;

use crds::{
    contract::{Failure, FailureReason, RunResult, Stage, StageOutcome},
    identity::Revision,
};
use k8s_openapi::jiff::Timestamp;

/// The state of the cluster as far as it concerns one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The Jobs that this object owns (by uid), of all revisions.
    pub jobs: Vec<JobState>,
    /// Jobs with the labels of this run that this object does not own.
    pub foreign_jobs: Vec<ForeignJob>,
    /// Claims, ConfigMaps and keys that the run mounts and that do not exist.
    pub missing_volumes: Vec<MissingVolume>,
}

/// One Job of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its stage.
    pub stage: Stage,
    /// The revision that it computes.
    pub revision: Revision,
    /// Whether it is active, complete or failed.
    pub phase: JobPhase,
    /// Whether `spec.suspend` is set.
    pub suspended: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The time at which it was created or last resumed: the start of its deadlines.
    pub waiting_since: Option<Timestamp>,
    /// Whether a container of one of its pods has ever started.
    pub started: bool,
    /// The requested completions.
    pub completions: u32,
    /// The successful completions.
    pub succeeded: u32,
    /// The failed indexes of an Indexed Job, for example `1,3-5`.
    pub failed_indexes: String,
    /// Its `ttlSecondsAfterFinished`.
    pub ttl: Option<i32>,
    /// The result in the termination message of its pod; plan and finalize stages only, once the Job is complete.
    pub result: JobResult,
    /// The failures that its latest failed pods reported, in the order of the shards.
    pub failures: Vec<Failure>,
    /// Why one of its pods is pending: the message of the scheduler or of the kubelet.
    pub pending: Option<String>,
    /// Why the API server rejects its pods: the message of the Job controller's event.
    pub rejection: Option<String>,
}

/// Whether a Job is active, complete or failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobPhase {
    /// Active: running, pending or suspended.
    Live,
    /// Every completion succeeded.
    Complete,
    /// Failed, with the reason and message of the Job controller.
    Failed {
        /// For example `BackoffLimitExceeded`, `PodFailurePolicy`, `FailedIndexes`.
        reason: String,
        /// One sentence.
        message: String,
    },
}

/// The result of a complete Job.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum JobResult {
    /// There is no result: the pod was deleted, or the Job is not complete.
    #[default]
    Missing,
    /// The termination message is not a usable result; the text says why.
    Unreadable(String),
    /// The result.
    Read(Box<RunResult>),
}

impl JobResult {
    /// The outcome of the stage; `None` without a readable result.
    pub fn outcome(&self) -> Option<&StageOutcome> {
        match self {
            Self::Read(result) => Some(&result.outcome),
            Self::Missing | Self::Unreadable(_) => None,
        }
    }
}

/// A Job with the labels of a run and another owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignJob {
    /// Its name.
    pub name: String,
    /// Whether it is being deleted, or will be, because its owner is a deleted run with the same name.
    pub terminating: bool,
}

/// A claim, a ConfigMap or a key of one that a run mounts and that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingVolume {
    /// The path of the field that names it.
    pub field: String,
    /// `PersistentVolumeClaim` or `ConfigMap`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// The missing key of an existing ConfigMap; `None` if the object itself does not exist.
    pub key: Option<String>,
}

impl fmt::Display for MissingVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, kind, name, key } = self;
        match key {
            None => write!(f, "{field}: {kind} {name:?} does not exist"),
            Some(key) => write!(f, "{field}: {kind} {name:?} has no key {key:?}"),
        }
    }
}

impl World {
    /// The Job of a stage of a revision.
    pub fn job(&self, revision: &Revision, stage: Stage) -> Option<&JobState> {
        self.jobs.iter().find(|job| job.stage == stage && job.revision == *revision)
    }

    /// Why finalize wants committed shards to be embedded again; `None` if it does not, or has succeeded since.
    pub fn superseded(&self, revision: &Revision) -> Option<&Failure> {
        let finalize = self.job(revision, Stage::Finalize).filter(|job| job.phase != JobPhase::Complete)?;
        finalize.failures.iter().find(|failure| failure.reason == FailureReason::ShardsSuperseded)
    }

    /// The Jobs of a revision.
    pub fn jobs_of<'a>(&'a self, revision: &'a Revision) -> impl Iterator<Item = &'a JobState> {
        self.jobs.iter().filter(move |job| job.revision == *revision)
    }
}
