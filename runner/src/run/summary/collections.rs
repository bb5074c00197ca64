//! The records of the collections, merged into the records of the run's summary.

use crds::{
    contract::RunnerConfig,
    summary::{GateOutcome, RerankRun},
};

use super::super::rerank::Reranked;

/// The gate of a run: the outcome of the first collection that fails it, otherwise of the first collection. `None`
/// without a gate.
pub(super) fn worst_gate(config: &RunnerConfig, reranks: &[Reranked]) -> Option<GateOutcome> {
    let gate = config.rerank.as_ref()?.gate.as_ref()?;
    let outcomes = || reranks.iter().filter_map(|reranked| reranked.gate.as_ref());
    let worst = outcomes().find(|outcome| !outcome.passed).or_else(|| outcomes().next());
    Some(worst.cloned().unwrap_or_else(|| GateOutcome {
        // A metric that was not measured does not pass.
        metric: gate.metric.clone(),
        value: 0.0,
        minimum: gate.minimum,
        maximum_drop: gate.maximum_drop,
        previous: None,
        not_compared: None,
        unknown_relevant: 0,
        passed: false,
    }))
}

/// The rerank stages of all collections, summed up.
pub(super) fn total_rerank(reranks: &[Reranked]) -> RerankRun {
    let mut runs = reranks.iter().map(|reranked| &reranked.run);
    let mut sum = runs.next().cloned().unwrap_or_default();
    runs.for_each(|next| sum += next);
    sum
}
