//! The fallbacks of all stages.

use crds::summary::{Fallback, ProcessingSummary};

use super::stages::devices_used;
use crate::{
    format::{count, counted},
    table::Table,
};

/// One row per fallback: stage, reason, source, count and message.
pub fn fallbacks(summary: &ProcessingSummary) -> Table {
    let row = |stage: &str, fallback: &Fallback, message: Option<&str>| {
        vec![
            stage.to_owned(),
            fallback.reason.to_string(),
            fallback.source.to_string(),
            count(fallback.count),
            message.unwrap_or_default().to_owned(),
        ]
    };
    let device = summary.device_run.fallback_reason.map(|reason| {
        let message = format!("requested {}, used {}", summary.device_run.requested, devices_used(&summary.device_run));
        let count = counted(summary.device_run.fallback_count, "time", "times");
        vec!["device".into(), reason.to_string(), "runtime".into(), count, message]
    });
    let dense = summary
        .dense_run
        .fallbacks
        .iter()
        .map(|skipped| row(&format!("dense, {}", skipped.model), &skipped.fallback, Some(&skipped.message)));
    let sparse = &summary.sparse_run;
    let rerank = &summary.rerank_run;
    let stages = [
        ("sparse", &sparse.fallback, &sparse.fallback_message),
        ("rerank", &rerank.fallback, &rerank.fallback_message),
    ];
    let stages = stages.into_iter().filter_map(|(stage, fallback, message)| {
        fallback.as_ref().map(|fallback| row(stage, fallback, message.as_deref()))
    });
    Table::new(["stage", "reason", "source", "#count", "message"]).of(device.into_iter().chain(dense).chain(stages))
}

#[cfg(test)]
mod tests {
    use crds::v1alpha1::{FallbackReason, FallbackSource};

    use super::*;
    use crate::sample;

    #[test]
    fn every_fallback_is_a_row() {
        let table = fallbacks(&sample::run());
        let rows: Vec<_> = table.rows.iter().map(|row| row[..4].join(" | ")).collect();
        assert_eq!(
            rows,
            [
                "device | DeviceFallback | runtime | 1 time",
                "dense, bge-large | ModelUnavailable | load | 4",
                "sparse | OutOfMemory | runtime | 137",
            ]
        );
    }

    #[test]
    fn a_stage_that_a_toggle_disabled_is_a_fallback() {
        let mut summary = sample::empty();
        summary.sparse_run.fallback =
            Some(Fallback { reason: FallbackReason::FeatureDisabled, source: FallbackSource::Toggle, count: 1 });
        assert_eq!(fallbacks(&summary).rows.len(), 1);
    }
}
