//! The quality gate: whether the retrieval quality of a new revision allows readers to switch to it.

use crds::{
    contract::{FailureReason, RunRef},
    identity::Revision,
    layout,
    summary::{GateOutcome, Quality},
    v1alpha1::GateSpec,
};

use super::published::{self, Published};
use crate::{
    process::error::{Result, StageError},
    store::Store,
};

/// Evaluates the gate on the `quality` of `revision`, which `run` computed. `None` if the metric was not measured.
///
/// # Errors
/// If the gate has a maximum drop, and the summary of the published revision cannot be read.
pub fn evaluate(
    gate: &GateSpec,
    quality: &Quality,
    store: &Store,
    (run, revision): (&RunRef, &Revision),
    collection: &str,
) -> Result<Option<GateOutcome>> {
    let previous = match gate.maximum_drop {
        Some(_) => published_value(store, (run, revision), collection, &gate.metric)?,
        None => None,
    };
    Ok(last_value(quality, &gate.metric).map(|value| outcome(gate, value, previous)))
}

/// The value of a metric in the last measured list; `None` if it was not measured.
fn last_value(quality: &Quality, metric: &str) -> Option<f64> {
    quality.lists.last()?.metrics.get(metric).copied()
}

/// The value of the metric in the published revision. `None` if no other revision of the same run is published, or it
/// was not measured.
fn published_value(
    store: &Store,
    (run, revision): (&RunRef, &Revision),
    collection: &str,
    metric: &str,
) -> Result<Option<f64>> {
    let Some(Published { pointer, .. }) = published::read(store, collection)? else { return Ok(None) };
    let is_of_another_run = pointer.claim.is_some_and(|claim| !claim.run.is_same_run(run));
    let published = pointer.revision;
    if published == *revision || is_of_another_run {
        return Ok(None);
    }
    let path = layout::collection_summary(&published, collection);
    let Some(bytes) = store.get(&path)? else { return Ok(None) };
    let summary = report::read(&bytes, &store.uri_of(&path)).map_err(|error| {
        let message = format!(
            "spec.rerank.gate.maximumDrop: cannot read the quality of the published revision {published}: {error}"
        );
        StageError::new(FailureReason::InvalidConfiguration, message)
    })?;
    Ok(summary.quality.and_then(|quality| last_value(&quality, metric)))
}

fn outcome(gate: &GateSpec, value: f64, previous: Option<f64>) -> GateOutcome {
    let above_minimum = gate.minimum.is_none_or(|minimum| value >= minimum);
    let within_drop = gate.maximum_drop.zip(previous).is_none_or(|(drop, previous)| value >= previous - drop);
    GateOutcome {
        metric: gate.metric.clone(),
        value,
        minimum: gate.minimum,
        maximum_drop: gate.maximum_drop,
        previous,
        passed: above_minimum && within_drop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_checks_the_minimum_and_the_drop() {
        let gate = |minimum, maximum_drop| GateSpec { metric: "mrr".into(), minimum, maximum_drop };
        let passed = |gate: &GateSpec, value, previous| outcome(gate, value, previous).passed;
        assert!(passed(&gate(Some(0.3), None), 0.3, None));
        assert!(!passed(&gate(Some(0.3), None), 0.29, None));
        assert!(passed(&gate(None, Some(0.02)), 0.1, None), "nothing to drop from");
        assert!(passed(&gate(None, Some(0.02)), 0.49, Some(0.5)));
        assert!(!passed(&gate(None, Some(0.02)), 0.47, Some(0.5)));
        assert!(!passed(&gate(Some(0.5), Some(0.2)), 0.4, Some(0.5)));
    }
}
