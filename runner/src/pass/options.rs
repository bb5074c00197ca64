//! The inputs of a pass: the replicas of the model, and the options.

use std::{
    num::NonZeroUsize,
    sync::{Arc, atomic::AtomicBool},
};

use super::batching::TokenBudget;
use crate::device::memory::{LearnedBudget, Memory};

/// A model on one device. The replicas of a pass differ only in the device.
#[derive(Clone, Debug)]
pub struct Replica<'a, M> {
    /// The model.
    pub model: &'a M,
    /// The memory of its device, with the ceiling.
    pub memory: Memory,
    /// The budget at the end of the previous pass; `None` makes the pass probe.
    pub learned: Option<LearnedBudget>,
}

impl<'a, M> Replica<'a, M> {
    /// A model without a learned budget.
    pub fn new(model: &'a M, memory: Memory) -> Self {
        Self { model, memory, learned: None }
    }
}

/// The options of a pass; no option changes a row beyond rounding.
#[derive(Clone, Debug)]
pub struct PassOptions {
    /// Items that are held in memory and sorted by length together; the first windows of a pass are smaller.
    pub window: NonZeroUsize,
    /// Tokens of one batch when memory does not limit it.
    pub batch: TokenBudget,
    /// Threads that tokenize a window.
    pub tokenizer_threads: NonZeroUsize,
    /// Threads per replica; each computes one batch at a time.
    pub workers: NonZeroUsize,
    /// Whether the pass begins with batches of the longest sequences, to measure the memory that a token takes.
    pub probe: bool,
    /// Stops the pass between two batches once it is true.
    pub cancelled: Arc<AtomicBool>,
}
