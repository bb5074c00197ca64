//! A model's turn: it holds the device alone from before it is loaded until after it is gone, and the turn is on record.

use std::{num::NonZeroUsize, thread, time::Instant};

use candle_core::Device;
use crds::summary::{LeaseEvent, MitigationEvent, Sample};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Run;
use crate::{
    batch::TokenBudget,
    batched::{self, PassError, PassOptions, PassRecord, RowModel},
    error::StageError,
    memory::Memory,
    metrics::METRICS,
};

/// Items that are tokenized and sorted by length together.
const WINDOW: usize = 512;
/// Samples of a turn; when there are more, two become one.
const MOST_SAMPLES: usize = 64;

/// What is on record about turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// Who held the device.
    pub leases: Vec<LeaseEvent>,
    /// What was done about pressure on memory.
    pub mitigations: Vec<MitigationEvent>,
    /// How fast the passes were.
    pub samples: Vec<Sample>,
}

impl Trace {
    /// Adds what is on record elsewhere.
    pub fn extend(&mut self, other: Self) {
        self.leases.extend(other.leases);
        self.mitigations.extend(other.mitigations);
        self.samples.extend(other.samples);
    }
}

/// A turn that has begun.
pub struct Turn<'a> {
    run: &'a Run,
    stage: &'static str,
    model: &'a str,
    shard: Option<u32>,
    device: String,
    memory: Memory,
    acquired_at: Timestamp,
    bytes_before: u64,
    bytes_peak: u64,
    samples: Vec<Sample>,
    /// How long a sample is at least, in milliseconds.
    interval: u64,
}

impl<'a> Turn<'a> {
    /// Begins the turn of a model, before it is loaded.
    pub fn begin(run: &'a Run, stage: &'static str, model: &'a str, shard: Option<u32>, device: &Device) -> Self {
        let memory = Memory::of_process(run.toggles.memory_ceiling);
        let bytes_before = memory.used();
        Self {
            run,
            stage,
            model,
            shard,
            device: if device.is_cpu() { "cpu".into() } else { "cuda".into() },
            memory,
            acquired_at: Timestamp::now(),
            bytes_before,
            bytes_peak: bytes_before,
            samples: Vec::new(),
            interval: 100,
        }
    }

    /// Runs the model over items, whose rows the `sink` gets in their order; `done` is told how many are finished.
    ///
    /// # Errors
    /// As [`batched::run`].
    pub fn run<M, I>(
        &mut self,
        model: &M,
        items: impl Iterator<Item = Result<I, StageError>> + Send,
        mut done: impl FnMut(u64),
        mut sink: impl FnMut(M::Rows) -> Result<(), StageError>,
    ) -> Result<PassRecord, PassError<StageError>>
    where
        M: RowModel<I>,
        I: Send + Sync,
    {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        // On a CPU the workers have every core, and one thread tokenizes a hundred times faster than they embed.
        let (workers, tokenizer_threads) =
            if self.device == "cpu" { (cores, NonZeroUsize::MIN) } else { (NonZeroUsize::MIN, cores) };
        let options = PassOptions {
            window: NonZeroUsize::new(WINDOW).unwrap_or(NonZeroUsize::MIN),
            batch: TokenBudget(self.run.toggles.batch_tokens),
            tokenizer_threads,
            workers,
            memory: self.memory,
            cancelled: self.run.interrupt.flag(),
        };
        let (mut since, mut tokens) = (Instant::now(), 0);
        let (stage, name, device) = (self.stage, self.model, self.device.clone());
        let mut last = batched::Progress::default();
        let progress = |progress: batched::Progress| {
            let (new_tokens, items) = (progress.tokens - last.tokens, progress.items - last.items);
            METRICS.batch(stage, name, &device, progress.batch_seconds, new_tokens, items);
            last = progress;
            let millis = since.elapsed().as_millis() as u64;
            if millis >= self.interval {
                self.sample(millis, progress.tokens - tokens);
                (since, tokens) = (Instant::now(), progress.tokens);
            }
            done(progress.items);
        };
        let record = batched::run(model, items, &options, progress, |_, rows| sink(rows))?;
        self.sample(since.elapsed().as_millis() as u64, record.tokens - tokens);
        self.bytes_peak = self.bytes_peak.max(record.peak_bytes);
        METRICS.pass(self.stage, self.model, &self.device, record.truncated, self.bytes_peak);
        for event in &record.mitigation_events {
            METRICS.mitigation(self.stage, &format!("{:?}", event.kind));
        }
        Ok(record)
    }

    fn sample(&mut self, millis: u64, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let used_bytes = self.memory.used();
        self.bytes_peak = self.bytes_peak.max(used_bytes);
        self.samples.push(Sample {
            shard: self.shard,
            stage: self.stage.into(),
            model: self.model.into(),
            at: Timestamp::now().to_string(),
            millis,
            tokens,
            used_bytes,
        });
        if self.samples.len() > MOST_SAMPLES {
            self.interval *= 2;
            let pairs = self.samples.chunks(2).map(|pair| Sample {
                millis: pair.iter().map(|sample| sample.millis).sum(),
                tokens: pair.iter().map(|sample| sample.tokens).sum(),
                ..pair[pair.len() - 1].clone()
            });
            self.samples = pairs.collect();
        }
    }

    /// Ends the turn, once the model is gone or stays for its next one.
    pub fn end(self, record: Option<&PassRecord>) -> Trace {
        self.run.resident.relieve(self.memory);
        let mitigation = |event: &crate::memory::Mitigation| MitigationEvent {
            shard: self.shard,
            stage: self.stage.into(),
            model: self.model.into(),
            kind: event.kind,
            at: event.at.to_string(),
            tokens_before: event.tokens_before as u64,
            tokens_after: event.tokens_after as u64,
            used_bytes: event.used,
            ceiling_bytes: self.memory.ceiling(),
        };
        let mitigations = record.iter().flat_map(|record| &record.mitigation_events).map(mitigation).collect();
        let lease = LeaseEvent {
            shard: self.shard,
            stage: self.stage.into(),
            model: self.model.into(),
            device: self.device.clone(),
            acquired_at: self.acquired_at.to_string(),
            released_at: Timestamp::now().to_string(),
            bytes_before: self.bytes_before,
            bytes_peak: self.bytes_peak,
            bytes_after: self.memory.used(),
        };
        Trace { leases: vec![lease], mitigations, samples: self.samples }
    }
}
