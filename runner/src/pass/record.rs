//! The figures of a pass: during it, and at its end.

use std::{collections::BTreeMap, ops::AddAssign};

use crate::{
    device::memory::{LearnedBudget, Mitigation},
    tokenizer::Tokens,
};

/// The progress of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PassProgress {
    /// Finished items.
    pub items: u64,
    /// Tokens computed, special tokens included.
    pub tokens: u64,
    /// Duration of the last batch in seconds.
    pub batch_seconds: f64,
}

/// The figures of a finished pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassRecord {
    /// Finished items.
    pub items: u64,
    /// Tokens computed, special tokens included.
    pub tokens: u64,
    /// Items longer than the longest sequence of the model.
    pub truncated: u64,
    /// Tokens cut from them.
    pub tokens_lost: u64,
    /// Batches computed.
    pub batches: u64,
    /// Duration of the pass in seconds.
    pub seconds: f64,
    /// Number of items by length before truncation; the key is the upper end of a bucket in tokens, a power of two.
    pub lengths: BTreeMap<u32, u64>,
    /// The largest memory in use on one device, in bytes.
    pub peak_bytes: u64,
    /// Number of mitigations of memory pressure.
    pub mitigations: u64,
    /// The first of these mitigations.
    pub mitigation_events: Vec<Mitigation>,
    /// The figures of each replica, in their order.
    pub replicas: Vec<ReplicaRecord>,
}

/// The figures of a replica in a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// Finished items.
    pub items: u64,
    /// The largest memory in use, in bytes.
    pub peak_bytes: u64,
    /// The token budget that the pass ended with.
    pub learned: LearnedBudget,
}

impl AddAssign<&ReplicaRecord> for ReplicaRecord {
    fn add_assign(&mut self, other: &Self) {
        let Self { items, peak_bytes, learned } = *other;
        self.items += items;
        self.peak_bytes = self.peak_bytes.max(peak_bytes);
        self.learned = learned;
    }
}

impl AddAssign<&PassRecord> for PassRecord {
    /// Adds a later pass of the same model; learned budgets are those of the later pass.
    fn add_assign(&mut self, other: &Self) {
        // Without `..`: a new figure has to be added here.
        let Self {
            items,
            tokens,
            truncated,
            tokens_lost,
            batches,
            seconds,
            lengths,
            peak_bytes,
            mitigations,
            mitigation_events,
            replicas,
        } = other;
        self.items += items;
        self.tokens += tokens;
        self.truncated += truncated;
        self.tokens_lost += tokens_lost;
        self.batches += batches;
        self.seconds += seconds;
        for (up_to, count) in lengths {
            *self.lengths.entry(*up_to).or_default() += count;
        }
        self.peak_bytes = self.peak_bytes.max(*peak_bytes);
        self.mitigations += mitigations;
        self.mitigation_events.extend_from_slice(mitigation_events);
        self.replicas.resize(self.replicas.len().max(replicas.len()), ReplicaRecord::default());
        for (sum, replica) in self.replicas.iter_mut().zip(replicas) {
            *sum += replica;
        }
    }
}

impl PassRecord {
    /// Counts the lengths and the truncation of tokenized rows.
    pub(super) fn count(&mut self, rows: &[Tokens]) {
        for tokens in rows {
            self.truncated += u64::from(tokens.lost > 0);
            self.tokens_lost += tokens.lost as u64;
            let length = u32::try_from(tokens.ids.len() + tokens.lost).unwrap_or(u32::MAX >> 1);
            *self.lengths.entry(length.next_power_of_two()).or_default() += 1;
        }
    }
}
