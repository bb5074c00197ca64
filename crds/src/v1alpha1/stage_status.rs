//! The status of a stage that can fall back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fallback::{FallbackReason, FallbackSource};

/// One stage that can fall back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// For the printer column: `Disabled`, `Pending`, `Executed`, the reason of the fallback, or `Unfinished` where the
    /// run failed before it said what the stage did.
    pub state: String,
    /// Whether the stage was asked for.
    pub enabled: bool,
    /// Whether the stage did anything of what was asked.
    pub executed: bool,
    /// Why it did less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// Where that arose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_source: Option<FallbackSource>,
    /// How often it did less.
    #[serde(default)]
    pub fallback_count: u64,
    /// Time of the stage, in seconds; shards that ran side by side are added up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_seconds: Option<String>,
    /// Of the sparse stage, the share of rows whose vector the model made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<String>,
    /// Of the rerank stage, the candidates that were scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
}

impl StageStatus {
    /// A stage that was not asked for.
    pub fn disabled() -> Self {
        Self {
            state: "Disabled".into(),
            enabled: false,
            executed: false,
            fallback_reason: None,
            fallback_source: None,
            fallback_count: 0,
            latency_seconds: None,
            coverage: None,
            candidates: None,
        }
    }

    /// A stage that was asked for and has not run yet.
    pub fn pending() -> Self {
        Self { state: "Pending".into(), enabled: true, ..Self::disabled() }
    }

    /// A stage that was asked for in a run that failed before it said what the stage did.
    pub fn unfinished() -> Self {
        Self { state: "Unfinished".into(), ..Self::pending() }
    }

    /// A stage that did what was asked.
    pub fn executed() -> Self {
        Self { state: "Executed".into(), executed: true, ..Self::pending() }
    }

    /// A stage that was asked for and did less.
    pub fn fell_back(reason: FallbackReason, source: FallbackSource, count: u64) -> Self {
        Self {
            state: reason.to_string(),
            fallback_reason: Some(reason),
            fallback_source: Some(source),
            fallback_count: count,
            ..Self::pending()
        }
    }
}
