//! The condition types of an `EmbeddingRun`, and the reasons that the operator itself sets. A reason that comes from a
//! stage is a [`crate::contract::FailureReason`].

use std::fmt;

/// A condition of an `EmbeddingRun`; each carries `observedGeneration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec is valid and every field of it is implemented.
    Accepted,
    /// The Jobs may use the cluster's resources; `False` while a queue holds them back.
    Admitted,
    /// The run is suspended.
    Suspended,
    /// The revision of the spec is complete.
    Complete,
    /// The revision of the spec failed.
    Failed,
    /// The revision is complete, but a stage fell back.
    Degraded,
    /// The status holds the result of the finished revision.
    ResultRecorded,
    /// kstatus: the resource matches its spec.
    Ready,
    /// kstatus: work is in progress.
    Reconciling,
    /// kstatus: no progress without a change from outside.
    Stalled,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reasons that the operator sets in conditions and events.
pub mod reason {
    /// The spec is valid and every field of it is implemented.
    pub const ACCEPTED: &str = "Accepted";
    /// The spec sets a field of the API that is not implemented yet.
    pub const NOT_IMPLEMENTED: &str = "NotImplemented";
    /// The spec has an error that the schema cannot detect.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A claim, a ConfigMap or a key of one that the run mounts does not exist.
    pub const VOLUME_NOT_FOUND: &str = "VolumeNotFound";
    /// The API server rejects the pods (quota, Pod Security, admission).
    pub const REFUSED: &str = "Refused";
    /// A Job of another owner has the name of a child.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// The plan Job is active.
    pub const PLANNING: &str = "Planning";
    /// The embed Job is active.
    pub const EMBEDDING: &str = "Embedding";
    /// The finalize Job is active.
    pub const FINALIZING: &str = "Finalizing";
    /// The revision is complete.
    pub const SUCCEEDED: &str = "Succeeded";
    /// The store already held this revision complete.
    pub const ALREADY_UP_TO_DATE: &str = "AlreadyUpToDate";
    /// The run is suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// The run continues after a suspension.
    pub const RESUMED: &str = "Resumed";
    /// The run is not suspended.
    pub const NOT_SUSPENDED: &str = "NotSuspended";
    /// No queue holds the Jobs back.
    pub const NO_QUEUE: &str = "NoQueue";
    /// A shard failed more often than `backoffLimitPerIndex` allows.
    pub const SHARD_FAILED: &str = "ShardFailed";
    /// A Job ran longer than `activeDeadlineSeconds`.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// No pod of a Job started within `startDeadlineSeconds`.
    pub const START_DEADLINE_EXCEEDED: &str = "StartDeadlineExceeded";
    /// A Job failed and its pods left no readable result.
    pub const JOB_FAILED: &str = "JobFailed";
    /// A new revision replaced one that was still running.
    pub const REPLACED: &str = "Replaced";
    /// A stage fell back.
    pub const FELL_BACK: &str = "FellBack";
    /// Every requested stage did its full work.
    pub const NO_FALLBACK: &str = "NoFallback";
    /// The revision is not finished.
    pub const IN_PROGRESS: &str = "InProgress";
}
