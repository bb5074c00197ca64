//! The labels of child objects.

/// The label that names the run on every child object.
pub const LABEL_RUN: &str = "embedrun.dev/run";
/// The label that names the revision on every child object.
pub const LABEL_REVISION: &str = "embedrun.dev/revision";
/// The label that names the stage (`plan`, `embed`, `finalize`) on every Job and pod.
pub const LABEL_STAGE: &str = "embedrun.dev/stage";
