//! An exclusive pass: it holds the devices alone from before its model is loaded until the model is dropped, and
//! records its leases, throughput and mitigations.

use std::{sync::Arc, time::Instant};

use crds::summary::{MitigationEvent, Sample};
use jiff::Timestamp;

use super::{PassContext, PassError, PassOptions, PassProgress, PassRecord, Replica, RowModel, engine};
use crate::{
    device::{
        Holder, Lease,
        memory::{LearnedBudget, Mitigation},
    },
    process::{
        error::{Result, StageError},
        metrics::METRICS,
    },
};

/// The largest number of throughput samples of a pass; above it, pairs are merged.
const MAX_SAMPLES: usize = 64;

/// A pass that has begun. Its record is complete once it is dropped, after its models.
pub struct ExclusivePass<'a> {
    context: PassContext<'a>,
    samples: Vec<Sample>,
    /// The shortest interval of a sample, in milliseconds.
    interval_millis: u64,
    /// The budgets that earlier runs of this pass ended with, per device.
    learned: Vec<LearnedBudget>,
    lease: Lease<'a>,
}

impl<'a> ExclusivePass<'a> {
    /// Begins the pass of a model, before the model is loaded.
    ///
    /// # Errors
    /// Same as [`Lease::acquire`].
    pub fn begin(context: PassContext<'a>, holder: Holder<'a>) -> Result<Self> {
        let PassContext { devices, models, ledger, interrupt, .. } = context;
        let lease = Lease::acquire(holder, devices, models, ledger, interrupt)?;
        Ok(Self { context, samples: Vec::new(), interval_millis: 100, learned: Vec::new(), lease })
    }

    /// Runs a model, loaded once per device, over items. The `sink` gets the rows in input order; `on_batch` gets the
    /// number of finished items after every batch.
    ///
    /// # Errors
    /// Same as [`engine::run`].
    pub fn run<M, I>(
        &mut self,
        models: &[Arc<M>],
        items: impl Iterator<Item = Result<I, StageError>> + Send,
        mut on_batch: impl FnMut(u64),
        mut sink: impl FnMut(M::Rows) -> Result<(), StageError>,
    ) -> Result<PassRecord, PassError<StageError>>
    where
        M: RowModel<I>,
        I: Send + Sync,
    {
        let devices = self.lease.devices();
        let options = PassOptions::for_devices(devices, self.context.toggles, self.context.interrupt.flag());
        let replicas: Vec<Replica<'_, M>> = models
            .iter()
            .zip(devices.iter())
            .enumerate()
            .map(|(index, (model, device))| Replica {
                learned: self.learned.get(index).copied(),
                ..Replica::new(&**model, device.memory.clone())
            })
            .collect();
        let (mut sample_start, mut sampled_tokens) = (Instant::now(), 0);
        let (Holder { stage, model, .. }, kind) = (self.lease.holder(), devices.kind());
        let mut previous = PassProgress::default();
        let progress = |progress: PassProgress| {
            let (new_tokens, items) = (progress.tokens - previous.tokens, progress.items - previous.items);
            METRICS.batch(stage, model, kind, progress.batch_seconds, new_tokens, items);
            previous = progress;
            let millis = sample_start.elapsed().as_millis() as u64;
            if millis >= self.interval_millis {
                self.sample(millis, progress.tokens - sampled_tokens);
                (sample_start, sampled_tokens) = (Instant::now(), progress.tokens);
            }
            on_batch(progress.items);
        };
        let record = engine::run(&replicas, items, &options, progress, |_, rows| sink(rows))?;
        self.sample(sample_start.elapsed().as_millis() as u64, record.tokens - sampled_tokens);
        METRICS.truncated(stage, model, record.truncated);
        for (index, (replica, device)) in record.replicas.iter().zip(devices.iter()).enumerate() {
            self.lease.observe(index, replica.peak_bytes);
            METRICS.peak(&device.name, replica.peak_bytes);
        }
        if devices.accelerated() {
            self.learned = record.replicas.iter().map(|replica| replica.learned).collect();
        }
        self.record_mitigations(&record);
        Ok(record)
    }

    fn record_mitigations(&self, record: &PassRecord) {
        let Holder { stage, model, shard } = self.lease.holder();
        // All devices of a process are of one kind.
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

    /// Records the throughput of an interval.
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
        if self.samples.len() > MAX_SAMPLES {
            self.interval_millis *= 2;
            let pairs = self.samples.chunks(2).map(|pair| Sample {
                millis: pair.iter().map(|sample| sample.millis).sum(),
                tokens: pair.iter().map(|sample| sample.tokens).sum(),
                ..pair[pair.len() - 1].clone()
            });
            self.samples = pairs.collect();
        }
    }
}

impl Drop for ExclusivePass<'_> {
    fn drop(&mut self) {
        self.lease.ledger().open().samples.append(&mut self.samples);
    }
}
