//! The labels of child objects.

/// The name of the run; on every child object.
pub const LABEL_RUN: &str = "embedrun.dev/run";
/// The revision; on every child object.
pub const LABEL_REVISION: &str = "embedrun.dev/revision";
/// The stage (`plan`, `embed` or `finalize`); on every Job and pod.
pub const LABEL_STAGE: &str = "embedrun.dev/stage";
