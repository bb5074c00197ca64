//! Why and where a stage fell back.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a stage did less than was asked. Anything else is not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum FallbackReason {
    /// A toggle switched it off.
    FeatureDisabled,
    /// There was nothing to work on.
    NoCandidates,
    /// The model could not be loaded.
    ModelUnavailable,
    /// It ran on another device than asked for.
    DeviceFallback,
    /// The device had too little memory.
    OutOfMemory,
    /// It failed while running.
    ExecutionFailed,
    /// There were no queries.
    NoQueries,
}

impl FallbackReason {
    /// Every reason.
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

/// Where a fallback arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FallbackSource {
    /// In a toggle.
    Toggle,
    /// In the input: the chunks or the queries.
    Input,
    /// While a model was loaded.
    Load,
    /// While a stage ran.
    Runtime,
}

impl FallbackSource {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Toggle, Self::Input, Self::Load, Self::Runtime];
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
