//! A model's turn: it holds the devices alone from before it is loaded until after it is gone, and the turn is on
//! record.

use std::{num::NonZeroUsize, sync::Arc, thread, time::Instant};

use crds::summary::{MitigationEvent, Sample};
use jiff::Timestamp;

use super::Run;
use crate::{
    batch::TokenBudget,
    batched::{self, PassError, PassOptions, PassRecord, Replica, RowModel},
    error::{Result, StageError},
    gpu::{Devices, Holder, Lease, Ledger},
    memory::{Learnt, Mitigation},
    metrics::METRICS,
};

/// Samples of a turn; when there are more, two become one.
const MOST_SAMPLES: usize = 64;

/// How passes work on a kind of device.
struct Habits {
    /// Items that are tokenized and sorted by length together.
    window: usize,
    /// Tokens of a batch.
    batch_tokens: usize,
    /// Batches that are at work per device.
    workers: NonZeroUsize,
    /// Threads that tokenize.
    tokenizer_threads: NonZeroUsize,
    /// Whether memory is measured before the first text.
    probe: bool,
}

impl Habits {
    fn of(devices: &Devices) -> Self {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        if devices.accelerated() {
            // One batch is made ready while the device computes another; the cores are there to tokenize. The budget is
            // what the device holds: it begins high, and the probe brings it down.
            let workers = NonZeroUsize::MIN.saturating_add(1);
            Self { window: 4096, batch_tokens: 32_768, workers, tokenizer_threads: cores, probe: true }
        } else {
            // The workers have every core, and one thread tokenizes a hundred times faster than they embed.
            let tokenizer_threads = NonZeroUsize::MIN;
            Self { window: 512, batch_tokens: 1024, workers: cores, tokenizer_threads, probe: false }
        }
    }
}

/// A turn that has begun. What was done is on record once it is dropped, which is after its models are.
pub struct Turn<'a> {
    run: &'a Run,
    samples: Vec<Sample>,
    /// How long a sample is at least, in milliseconds.
    interval: u64,
    /// What the passes before have come to, per device.
    learnt: Vec<Learnt>,
    lease: Lease<'a>,
}

impl<'a> Turn<'a> {
    /// Begins the turn of a model, before it is loaded.
    ///
    /// # Errors
    /// As [`Lease::acquire`].
    pub fn begin(run: &'a Run, holder: Holder<'a>, devices: &'a Devices, ledger: &'a Ledger) -> Result<Self> {
        let lease = Lease::acquire(holder, devices, &run.resident, ledger, &run.interrupt)?;
        Ok(Self { run, samples: Vec::new(), interval: 100, learnt: Vec::new(), lease })
    }

    /// Runs a model, which is there once per device, over items, whose rows the `sink` gets in their order; `done` is
    /// told how many are finished.
    ///
    /// # Errors
    /// As [`batched::run`].
    pub fn run<M, I>(
        &mut self,
        models: &[Arc<M>],
        items: impl Iterator<Item = Result<I, StageError>> + Send,
        mut done: impl FnMut(u64),
        mut sink: impl FnMut(M::Rows) -> Result<(), StageError>,
    ) -> Result<PassRecord, PassError<StageError>>
    where
        M: RowModel<I>,
        I: Send + Sync,
    {
        let devices = self.lease.devices();
        let habits = Habits::of(devices);
        let toggles = &self.run.toggles;
        let options = PassOptions {
            window: NonZeroUsize::new(habits.window).unwrap_or(NonZeroUsize::MIN),
            batch: TokenBudget(toggles.batch_tokens.map_or(habits.batch_tokens, NonZeroUsize::get)),
            tokenizer_threads: habits.tokenizer_threads,
            workers: toggles.workers.unwrap_or(habits.workers),
            probe: habits.probe,
            cancelled: self.run.interrupt.flag(),
        };
        let replicas: Vec<Replica<'_, M>> = models
            .iter()
            .zip(devices.iter())
            .enumerate()
            .map(|(index, (model, device))| Replica {
                learnt: self.learnt.get(index).copied(),
                ..Replica::new(&**model, device.memory.clone())
            })
            .collect();
        let (mut since, mut tokens) = (Instant::now(), 0);
        let (Holder { stage, model, .. }, kind) = (self.lease.holder(), devices.kind());
        let mut last = batched::Progress::default();
        let progress = |progress: batched::Progress| {
            let (new_tokens, items) = (progress.tokens - last.tokens, progress.items - last.items);
            METRICS.batch(stage, model, kind, progress.batch_seconds, new_tokens, items);
            last = progress;
            let millis = since.elapsed().as_millis() as u64;
            if millis >= self.interval {
                self.sample(millis, progress.tokens - tokens);
                (since, tokens) = (Instant::now(), progress.tokens);
            }
            done(progress.items);
        };
        let record = batched::run(&replicas, items, &options, progress, |_, rows| sink(rows))?;
        self.sample(since.elapsed().as_millis() as u64, record.tokens - tokens);
        METRICS.truncated(stage, model, record.truncated);
        for (index, (replica, device)) in record.replicas.iter().zip(devices.iter()).enumerate() {
            self.lease.saw(index, replica.peak_bytes);
            METRICS.peak(&device.name, replica.peak_bytes);
        }
        if devices.accelerated() {
            self.learnt = record.replicas.iter().map(|replica| replica.learnt).collect();
        }
        self.put_on_record(&record);
        Ok(record)
    }

    fn put_on_record(&self, record: &PassRecord) {
        let Holder { stage, model, shard } = self.lease.holder();
        // Where there are several devices, they are of a kind.
        let ceiling_bytes = self.lease.devices().iter().map(|device| device.memory.ceiling()).min().unwrap_or(u64::MAX);
        let event = |event: &Mitigation| MitigationEvent {
            shard,
            stage: stage.into(),
            model: model.into(),
            kind: event.kind,
            at: event.at.to_string(),
            tokens_before: event.tokens_before as u64,
            tokens_after: event.tokens_after as u64,
            used_bytes: event.used,
            ceiling_bytes,
        };
        for event in &record.mitigation_events {
            METRICS.mitigation(stage, &format!("{:?}", event.kind));
        }
        self.lease.ledger().open().mitigations.extend(record.mitigation_events.iter().map(event));
    }

    fn sample(&mut self, millis: u64, tokens: u64) {
        if tokens == 0 {
            return;
        }
        let used_bytes = self.lease.sample();
        let Holder { stage, model, shard } = self.lease.holder();
        self.samples.push(Sample {
            shard,
            stage: stage.into(),
            model: model.into(),
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
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.lease.ledger().open().samples.append(&mut self.samples);
    }
}
