//! The plain data of a budget: its limits, what it has learned, and its changes.

use crds::summary::MitigationKind;
use jiff::Timestamp;

/// The limits of a budget, and the estimated cost of a token.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Tokens of a batch when memory does not limit it.
    pub largest: usize,
    /// Estimated bytes that a token takes while its batch is computed.
    pub bytes_per_token: u64,
    /// Batches in flight at the same time.
    pub workers: usize,
}

/// The budget that a pass ended with, for the next pass of the same model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearnedBudget {
    /// Tokens of a batch.
    pub tokens: usize,
    /// Bytes that a token takes, measured or estimated.
    pub bytes_per_token: u64,
}

/// A change of the budget in response to memory pressure, or the recovery from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mitigation {
    /// The kind of change.
    pub kind: MitigationKind,
    /// The time.
    pub at: Timestamp,
    /// Tokens of a batch before.
    pub tokens_before: usize,
    /// Tokens of a batch after.
    pub tokens_after: usize,
    /// Memory in use, in bytes.
    pub used: u64,
}
