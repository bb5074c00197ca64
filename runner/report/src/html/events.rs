//! The events that the charts show, from the summaries of a run and its collections.

use crds::summary::{LeaseEvent, MitigationEvent, ProcessingSummary, Sample};

use crate::chart::Series;

/// The events of a run. Samples are only in the summaries of its collections.
pub struct Events<'a> {
    pub samples: Vec<&'a Sample>,
    pub leases: Vec<&'a LeaseEvent>,
    pub mitigations: Vec<&'a MitigationEvent>,
}

impl<'a> Events<'a> {
    /// The events of the run, or of its collections.
    pub fn of(run: &'a ProcessingSummary, collections: &'a [ProcessingSummary]) -> Self {
        Self {
            samples: own_or_all(run, collections, |summary| &summary.telemetry.samples),
            leases: own_or_all(run, collections, |summary| &summary.telemetry.lease_events),
            mitigations: own_or_all(run, collections, |summary| &summary.telemetry.mitigation_events),
        }
    }

    /// The models of the run in the order of the spec, then any other that an event names.
    pub fn series(&self, run: &ProcessingSummary) -> Series {
        let mut series = Series::default();
        let dense = run.dense_run.passes.iter().map(|pass| ("dense", &pass.model));
        let sparse = run.sparse_run.passes.iter().map(|pass| ("sparse", &pass.model));
        let rerank = run.rerank_run.model.iter().map(|model| ("rerank", &model.model));
        let leases = self.leases.iter().map(|lease| (lease.stage.as_str(), &lease.model));
        let samples = self.samples.iter().map(|sample| (sample.stage.as_str(), &sample.model));
        for (stage, model) in dense.chain(sparse).chain(rerank).chain(leases).chain(samples) {
            series.index(stage, model);
        }
        series
    }
}

/// The items of the run, or those of its collections if the run has none.
fn own_or_all<'a, T>(
    run: &'a ProcessingSummary,
    collections: &'a [ProcessingSummary],
    of: impl Fn(&'a ProcessingSummary) -> &'a Vec<T>,
) -> Vec<&'a T> {
    let own = of(run);
    if own.is_empty() { collections.iter().flat_map(of).collect() } else { own.iter().collect() }
}
