//! The record of the leases.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crds::summary::{LeaseEvent, MitigationEvent, Sample};
use serde::{Deserialize, Serialize};

/// The record of leases and of the passes that held them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The leases, one per pass and device.
    pub leases: Vec<LeaseEvent>,
    /// The mitigations of memory pressure.
    pub mitigations: Vec<MitigationEvent>,
    /// The throughput of the passes over time.
    pub samples: Vec<Sample>,
}

/// Collects the record while passes run.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Trace>);

impl Ledger {
    /// The record, to add to it.
    pub fn open(&self) -> MutexGuard<'_, Trace> {
        // Entries are added whole, so a panic leaves the record valid.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The finished record.
    pub fn into_trace(self) -> Trace {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
