//! The settings of an installation, which apply to every run.

/// The settings of an installation, which apply to every run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image of the runner; `spec.execution.runnerImage` of a run overrides it.
    pub runner_image: String,
    /// The image of pods with an accelerator; `None` uses `runner_image`.
    pub runner_cuda_image: Option<String>,
    /// The pull policy of the images: `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// The Secrets to pull the images with, in the namespace of the pods.
    pub image_pull_secrets: Vec<String>,
}

/// The field manager of the operator's writes, also its name in labels and events.
pub const FIELD_MANAGER: &str = "embedrun-operator";
