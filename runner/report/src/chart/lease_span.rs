//! A device lease on the time axis of a chart.

use crds::summary::LeaseEvent;
use jiff::Timestamp;

use super::{series::Series, time::moment};

/// A lease with parsed times.
pub struct LeaseSpan {
    /// The index of its model.
    pub series: usize,
    /// The shard; `None` in the finalize stage.
    pub shard: Option<u32>,
    /// The time of the acquisition.
    pub acquired: Timestamp,
    /// The time of the release, not before the acquisition.
    pub released: Timestamp,
    /// The peak memory in use, in bytes.
    pub peak_bytes: u64,
}

impl LeaseSpan {
    /// `None` if a time does not parse or the model has no series.
    pub fn of(lease: &LeaseEvent, series: &Series) -> Option<Self> {
        let acquired = moment(&lease.acquired_at)?;
        let released = moment(&lease.released_at)?.max(acquired);
        let series = series.find(&lease.stage, &lease.model)?;
        Some(Self { series, shard: lease.shard, acquired, released, peak_bytes: lease.bytes_peak })
    }
}
