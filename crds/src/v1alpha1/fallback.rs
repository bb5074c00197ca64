//! Why and where a stage fell back.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why the stage fell back: did less than its full work, or ran elsewhere than requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum FallbackReason {
    /// A toggle disabled the stage.
    FeatureDisabled,
    /// There were no candidates to work on.
    NoCandidates,
    /// The model could not be loaded.
    ModelUnavailable,
    /// The stage ran on another device than requested, or on fewer.
    DeviceFallback,
    /// The device ran out of memory.
    OutOfMemory,
    /// The stage failed while it ran.
    ExecutionFailed,
    /// There were no queries.
    NoQueries,
}

impl FallbackReason {
    /// All reasons.
    pub const ALL: [Self; 7] = [
        Self::FeatureDisabled,
        Self::NoCandidates,
        Self::ModelUnavailable,
        Self::DeviceFallback,
        Self::OutOfMemory,
        Self::ExecutionFailed,
        Self::NoQueries,
    ];
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where the cause of the fallback is: `toggle`, `input`, `load` (loading a model) or `runtime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FallbackSource {
    /// A toggle.
    Toggle,
    /// The input: the chunks or the queries.
    Input,
    /// Loading a model.
    Load,
    /// Running the stage.
    Runtime,
}

impl FallbackSource {
    /// All sources.
    pub const ALL: [Self; 4] = [Self::Toggle, Self::Input, Self::Load, Self::Runtime];

    /// The source as a phrase after a reason, for messages: `OutOfMemory at run time`.
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Toggle => "by a toggle",
            Self::Input => "in the input",
            Self::Load => "at load",
            Self::Runtime => "at run time",
        }
    }
}

impl fmt::Display for FallbackSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Toggle => "toggle",
            Self::Input => "input",
            Self::Load => "load",
            Self::Runtime => "runtime",
        })
    }
}
