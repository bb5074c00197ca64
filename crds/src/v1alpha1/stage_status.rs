//! The status of a stage that can fall back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fallback::{FallbackReason, FallbackSource};

/// The status of one stage that can fall back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// For the printer column: `Disabled`, `Pending`, `Executed`, the reason of the fallback, or `Unfinished` if the
    /// run failed before the stage reported.
    pub state: String,
    /// Whether the stage was requested.
    pub enabled: bool,
    /// Whether the stage did at least part of its work.
    pub executed: bool,
    /// Why the stage fell back; absent if it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_reason: Option<FallbackReason>,
    /// Where the cause of the fallback is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback_source: Option<FallbackSource>,
    /// The number of fallbacks.
    #[serde(default)]
    pub fallback_count: u64,
    /// The time of the stage in seconds, summed over shards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_seconds: Option<String>,
    /// Sparse stage only: the share of rows whose vector the model computed, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<String>,
    /// Rerank stage only: the number of scored pairs of query and candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidates: Option<u64>,
}

impl StageStatus {
    /// A stage that was not requested.
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

    /// A requested stage that has not run yet.
    pub fn pending() -> Self {
        Self { state: "Pending".into(), enabled: true, ..Self::disabled() }
    }

    /// A requested stage of a run that failed before the stage reported.
    pub fn unfinished() -> Self {
        Self { state: "Unfinished".into(), ..Self::pending() }
    }

    /// A stage that did its full work.
    pub fn executed() -> Self {
        Self { state: "Executed".into(), executed: true, ..Self::pending() }
    }

    /// A requested stage that fell back.
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
