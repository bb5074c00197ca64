//! Device leases, spans and metrics.

use crds::summary::{LeaseEvent, ProcessingSummary};

use super::row_limit::{MAX_ROWS, omitted};
use crate::{
    format::{bytes, count, seconds},
    table::Table,
};

/// One row per lease of a device by a model.
pub fn leases(leases: &[&LeaseEvent]) -> Table {
    let titles =
        ["shard", "stage", "model", "device", "acquired", "released", "memory source", "#before", "#peak", "#after"];
    Table::new(titles).of(leases.iter().take(MAX_ROWS).map(|lease| {
        vec![
            lease.shard.map_or_else(|| "–".into(), |shard| shard.to_string()),
            lease.stage.clone(),
            lease.model.clone(),
            lease.device.clone(),
            lease.acquired_at.clone(),
            lease.released_at.clone(),
            lease.memory_source.clone(),
            bytes(lease.bytes_before),
            bytes(lease.bytes_peak),
            bytes(lease.bytes_after),
        ]
    }))
}

/// A sentence about the rows that [`leases`] omits.
pub fn omitted_leases(leases: &[&LeaseEvent]) -> Option<String> {
    omitted(leases.len(), "lease", "leases")
}

/// One row per span: count and total time.
pub fn spans(summary: &ProcessingSummary) -> Table {
    Table::new(["span", "#count", "#time"]).of(summary
        .telemetry
        .spans
        .iter()
        .map(|span| vec![span.name.clone(), count(span.count), seconds(span.seconds)]))
}

/// One row per metric: its final value.
pub fn metric_values(summary: &ProcessingSummary) -> Table {
    Table::new(["metric", "#value"]).of(summary
        .telemetry
        .metrics
        .iter()
        .map(|(name, value)| vec![name.clone(), value.to_string()]))
}
