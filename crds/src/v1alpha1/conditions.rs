//! The condition types of an `EmbeddingRun` and the reasons that the operator itself gives. Reasons that come
//! from a stage are [`crate::contract::FailureReason`]s.

use std::fmt;

/// A condition of an `EmbeddingRun`; each carries `observedGeneration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The spec can be acted on.
    Accepted,
    /// The Jobs may use the cluster's resources (a queue may hold them back).
    Admitted,
    /// The run is suspended.
    Suspended,
    /// The revision of the spec is complete.
    Complete,
    /// The revision of the spec has failed.
    Failed,
    /// Complete, but a stage did less than was asked.
    Degraded,
    /// The result of the finished revision is in this status.
    ResultRecorded,
    /// kstatus: the resource is what its spec asks for.
    Ready,
    /// kstatus: work is under way.
    Reconciling,
    /// kstatus: work cannot go on without a change from outside.
    Stalled,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Reasons that the operator gives in conditions and events.
pub mod reason {
    /// The spec can be acted on.
    pub const ACCEPTED: &str = "Accepted";
    /// A field is part of the API but not acted on yet.
    pub const NOT_IMPLEMENTED: &str = "NotImplemented";
    /// The spec contradicts itself in a way that the schema cannot see.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// Something that the run mounts does not exist yet.
    pub const VOLUME_NOT_FOUND: &str = "VolumeNotFound";
    /// The namespace refuses the pods (quota, Pod Security, admission).
    pub const REFUSED: &str = "Refused";
    /// An object of another owner has the name of a child.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// The plan Job is at work.
    pub const PLANNING: &str = "Planning";
    /// The embed Job is at work.
    pub const EMBEDDING: &str = "Embedding";
    /// The finalize Job is at work.
    pub const FINALIZING: &str = "Finalizing";
    /// The revision is complete.
    pub const SUCCEEDED: &str = "Succeeded";
    /// The store already held this revision complete.
    pub const ALREADY_UP_TO_DATE: &str = "AlreadyUpToDate";
    /// The run is suspended.
    pub const SUSPENDED: &str = "Suspended";
    /// The run goes on after a suspension.
    pub const RESUMED: &str = "Resumed";
    /// The run is not suspended.
    pub const NOT_SUSPENDED: &str = "NotSuspended";
    /// No queue holds the Jobs back.
    pub const NO_QUEUE: &str = "NoQueue";
    /// A shard failed more often than allowed.
    pub const SHARD_FAILED: &str = "ShardFailed";
    /// A Job ran longer than `activeDeadlineSeconds`.
    pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
    /// No pod of a Job started within `startDeadlineSeconds`.
    pub const START_DEADLINE_EXCEEDED: &str = "StartDeadlineExceeded";
    /// A Job failed without a word from its pods.
    pub const JOB_FAILED: &str = "JobFailed";
    /// A new revision took the place of one that still ran.
    pub const REPLACED: &str = "Replaced";
    /// A stage did less than was asked.
    pub const FELL_BACK: &str = "FellBack";
    /// Every stage did what was asked.
    pub const NO_FALLBACK: &str = "NoFallback";
    /// The work is not finished.
    pub const IN_PROGRESS: &str = "InProgress";
}
