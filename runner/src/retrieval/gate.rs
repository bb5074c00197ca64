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

/// What the value of a revision is compared with.
enum Previous {
    /// No other revision of the same run is published.
    None,
    /// The value of the published revision, of the same queries.
    Value(f64),
    /// The published revision has no comparable value, and why.
    Incomparable(String),
}

/// Evaluates the gate on the `quality` of `revision`, which `run` computed. `None` if the metric was not measured. A maximum
/// drop is only checked against a revision of the same run that was judged by the same queries; otherwise the outcome says
/// why it was not.
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
    let Some(value) = last_value(quality, &gate.metric) else { return Ok(None) };
    let previous = match gate.maximum_drop {
        Some(_) => published_value(gate, quality, store, (run, revision), collection)?,
        None => Previous::None,
    };
    Ok(Some(GateOutcome { unknown_relevant: quality.unknown_relevant, ..outcome(gate, value, previous) }))
}

/// The value of a metric in the last measured list; `None` if it was not measured.
fn last_value(quality: &Quality, metric: &str) -> Option<f64> {
    quality.lists.last()?.metrics.get(metric).copied()
}

/// The value of the metric in the published revision, if that is of the same run.
fn published_value(
    gate: &GateSpec,
    quality: &Quality,
    store: &Store,
    (run, revision): (&RunRef, &Revision),
    collection: &str,
) -> Result<Previous> {
    let Some(Published { pointer, .. }) = published::read(store, collection)? else { return Ok(Previous::None) };
    let is_of_another_run = pointer.claim.is_some_and(|claim| !claim.run.is_same_run(run));
    let published = pointer.revision;
    if published == *revision || is_of_another_run {
        return Ok(Previous::None);
    }
    let path = layout::collection_summary(&published, collection);
    let Some(bytes) = store.get(&path)? else {
        let why = format!("{}, the summary of the published revision, is missing", store.uri_of(&path));
        return Ok(Previous::Incomparable(why));
    };
    let summary = report::read(&bytes, &store.uri_of(&path)).map_err(|error| {
        let message = format!(
            "spec.rerank.gate.maximumDrop: cannot read the quality of the published revision {published}: {error}"
        );
        StageError::new(FailureReason::InvalidConfiguration, message)
    })?;
    Ok(compare(gate, quality, &published, summary.quality.as_ref()))
}

/// The value of the metric in the `published` revision, if it is of the same queries.
fn compare(gate: &GateSpec, quality: &Quality, published: &Revision, previous: Option<&Quality>) -> Previous {
    let incomparable = |why: &str| Previous::Incomparable(format!("the published revision {published} {why}"));
    let Some((previous, value)) = previous.and_then(|quality| Some((quality, last_value(quality, &gate.metric)?)))
    else {
        return incomparable(&format!("has no value of {}", gate.metric));
    };
    match (&previous.queries_sha256, &quality.queries_sha256) {
        (None, _) => incomparable("does not record the queries that it was judged by"),
        (before, now) if before != now => incomparable("was judged by other queries"),
        _ => Previous::Value(value),
    }
}

fn outcome(gate: &GateSpec, value: f64, previous: Previous) -> GateOutcome {
    let (previous, not_compared) = match previous {
        Previous::None => (None, None),
        Previous::Value(previous) => (Some(previous), None),
        Previous::Incomparable(why) => (None, Some(why)),
    };
    let above_minimum = gate.minimum.is_none_or(|minimum| value >= minimum);
    let within_drop = gate.maximum_drop.zip(previous).is_none_or(|(drop, previous)| value >= previous - drop);
    GateOutcome {
        metric: gate.metric.clone(),
        value,
        minimum: gate.minimum,
        maximum_drop: gate.maximum_drop,
        previous,
        not_compared,
        unknown_relevant: 0,
        passed: above_minimum && within_drop,
    }
}

#[cfg(test)]
mod tests {
    use crds::summary::ListQuality;

    use super::*;

    fn gate(minimum: Option<f64>, maximum_drop: Option<f64>) -> GateSpec {
        GateSpec { metric: "mrr".into(), minimum, maximum_drop }
    }

    #[test]
    fn a_gate_checks_the_minimum_and_the_drop() {
        let passed = |gate: &GateSpec, value, previous: Option<f64>| {
            outcome(gate, value, previous.map_or(Previous::None, Previous::Value)).passed
        };
        assert!(passed(&gate(Some(0.3), None), 0.3, None));
        assert!(!passed(&gate(Some(0.3), None), 0.29, None));
        assert!(passed(&gate(None, Some(0.02)), 0.1, None), "nothing to drop from");
        assert!(passed(&gate(None, Some(0.02)), 0.49, Some(0.5)));
        assert!(!passed(&gate(None, Some(0.02)), 0.47, Some(0.5)));
        assert!(!passed(&gate(Some(0.5), Some(0.2)), 0.4, Some(0.5)));
    }

    #[test]
    fn values_of_other_queries_are_not_compared() {
        let quality = |sha256: Option<&str>, metric: &str| Quality {
            queries_sha256: sha256.map(Into::into),
            lists: vec![ListQuality {
                stage: "candidates".into(),
                model: None,
                metrics: [(metric.to_owned(), 0.9)].into(),
            }],
            ..Quality::default()
        };
        let published = Revision::from_recorded("aa");
        let compared = |previous: Option<&Quality>| {
            let gate = gate(None, Some(0.1));
            outcome(&gate, 0.2, compare(&gate, &quality(Some("now"), "mrr"), &published, previous))
        };
        let same = compared(Some(&quality(Some("now"), "mrr")));
        assert_eq!((same.previous, same.not_compared, same.passed), (Some(0.9), None, false));
        for (previous, why) in [
            (Some(quality(Some("before"), "mrr")), "was judged by other queries"),
            (Some(quality(None, "mrr")), "does not record the queries"),
            (Some(quality(Some("now"), "ndcg@10")), "has no value of mrr"),
            (None, "has no value of mrr"),
        ] {
            let outcome = compared(previous.as_ref());
            assert_eq!((outcome.previous, outcome.passed), (None, true), "{why}");
            let said = outcome.not_compared.unwrap_or_default();
            assert!(said.contains("revision aa") && said.contains(why), "{said}");
        }
    }
}
