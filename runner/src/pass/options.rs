//! The inputs of a pass: the replicas of the model, and the options.

use std::{
    num::NonZeroUsize,
    sync::{Arc, atomic::AtomicBool},
    thread,
};

use super::batching::TokenBudget;
use crate::{
    config::toggles::Toggles,
    device::{
        Devices,
        memory::{LearnedBudget, Memory},
    },
};

/// Tokens of a batch on a CPU.
const CPU_BATCH_TOKENS: usize = 1024;
/// Tokens of a batch on a GPU: what a large one holds; the probe lowers it.
const GPU_BATCH_TOKENS: usize = 32_768;
/// Items of a window on a CPU.
const CPU_WINDOW: usize = 512;
/// Items of a window on a GPU.
const GPU_WINDOW: usize = 4096;

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

impl PassOptions {
    /// The options of a pass on these devices: the defaults of their kind, except where a toggle sets a value.
    pub fn for_devices(devices: &Devices, toggles: &Toggles, cancelled: Arc<AtomicBool>) -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let gpu = devices.accelerated();
        let (window, batch_tokens) = if gpu { (GPU_WINDOW, GPU_BATCH_TOKENS) } else { (CPU_WINDOW, CPU_BATCH_TOKENS) };
        // On a GPU one batch is prepared while the device computes another, and the cores tokenize. On a CPU the workers use
        // every core; one thread tokenizes a hundred times faster than they embed.
        let (workers, tokenizer_threads) =
            if gpu { (NonZeroUsize::MIN.saturating_add(1), cores) } else { (cores, NonZeroUsize::MIN) };
        Self {
            window: NonZeroUsize::new(window).unwrap_or(NonZeroUsize::MIN),
            batch: TokenBudget(toggles.batch_tokens.map_or(batch_tokens, NonZeroUsize::get)),
            tokenizer_threads,
            workers: toggles.workers.unwrap_or(workers),
            probe: gpu,
            cancelled,
        }
    }
}
