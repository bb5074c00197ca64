//! What a pass has done, as numbers.

use std::collections::BTreeMap;

use crate::{
    memory::{Learnt, Mitigation},
    text::Tokens,
};

/// What a pass has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Items done.
    pub items: u64,
    /// Tokens computed, special tokens included.
    pub tokens: u64,
    /// How long the last batch took, in seconds.
    pub batch_seconds: f64,
}

/// What a pass did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PassRecord {
    /// Items done.
    pub items: u64,
    /// Tokens computed, special tokens included.
    pub tokens: u64,
    /// Items that were longer than the model takes.
    pub truncated: u64,
    /// Tokens cut from them.
    pub tokens_lost: u64,
    /// Batches computed.
    pub batches: u64,
    /// How long the pass took, in seconds.
    pub seconds: f64,
    /// How many items had how many tokens before any were cut: the upper end of a bucket, a power of two, and a count.
    pub lengths: BTreeMap<u32, u64>,
    /// The largest memory in use of a device, in bytes.
    pub peak_bytes: u64,
    /// How often something was done about pressure on memory.
    pub mitigations: u64,
    /// The first of what was done.
    pub mitigation_events: Vec<Mitigation>,
    /// What each replica did, in their order.
    pub replicas: Vec<ReplicaRecord>,
}

/// What a replica did in a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// Items done.
    pub items: u64,
    /// The largest memory in use, in bytes.
    pub peak_bytes: u64,
    /// What the budget of its batches has come to.
    pub learnt: Learnt,
}

impl PassRecord {
    /// Adds another pass of the same model.
    pub fn add(&mut self, other: &Self) {
        self.items += other.items;
        self.tokens += other.tokens;
        self.truncated += other.truncated;
        self.tokens_lost += other.tokens_lost;
        self.batches += other.batches;
        self.seconds += other.seconds;
        for (up_to, count) in &other.lengths {
            *self.lengths.entry(*up_to).or_default() += count;
        }
        self.peak_bytes = self.peak_bytes.max(other.peak_bytes);
        self.mitigations += other.mitigations;
        self.mitigation_events.extend_from_slice(&other.mitigation_events);
        self.replicas.resize(self.replicas.len().max(other.replicas.len()), ReplicaRecord::default());
        for (sum, replica) in self.replicas.iter_mut().zip(&other.replicas) {
            sum.items += replica.items;
            sum.peak_bytes = sum.peak_bytes.max(replica.peak_bytes);
            sum.learnt = replica.learnt;
        }
    }

    pub(super) fn count(&mut self, rows: &[Tokens]) {
        for tokens in rows {
            self.truncated += u64::from(tokens.lost > 0);
            self.tokens_lost += tokens.lost as u64;
            let length = u32::try_from(tokens.ids.len() + tokens.lost).unwrap_or(u32::MAX >> 1);
            *self.lengths.entry(length.next_power_of_two()).or_default() += 1;
        }
    }
}
