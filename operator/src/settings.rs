//! What an installation decides, apart from any single run.

/// What an installation decides, apart from any single run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The image of the runner, unless a run names another.
    pub runner_image: String,
    /// The image of pods that hold an accelerator, in place of `runner_image`; absent where one serves both.
    pub runner_cuda_image: Option<String>,
    /// When nodes pull the images: `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    /// The Secrets that nodes pull them with.
    pub image_pull_secrets: Vec<String>,
}

/// The name that this operator signs its writes with.
pub const FIELD_MANAGER: &str = "embedrun-operator";
