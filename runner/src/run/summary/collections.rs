//! What the collections of a run recorded, as one.

use crds::{
    contract::RunnerConfig,
    summary::{Fallback, GateOutcome, RerankRun},
    v1alpha1::FallbackSource,
};

use super::super::rerank::Reranked;

/// The gate of a run: the first collection that fails it, otherwise the first.
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
        passed: false,
    }))
}

/// The rerank stages of all collections as one.
pub(super) fn total_rerank(reranks: &[Reranked]) -> RerankRun {
    let mut sum = reranks.first().map(|reranked| reranked.run.clone()).unwrap_or_default();
    for RerankRun {
        executed,
        fallback,
        fallback_message,
        model,
        device,
        device_fallback,
        queries_from,
        queries,
        pairs,
        tokens,
        ..
    } in reranks.iter().skip(1).map(|reranked| &reranked.run)
    {
        sum.executed |= executed;
        sum.queries = sum.queries.max(*queries);
        sum.pairs += pairs;
        sum.tokens += tokens;
        sum.model = sum.model.take().or_else(|| model.clone());
        sum.device = sum.device.take().or_else(|| device.clone());
        sum.device_fallback = sum.device_fallback.or(*device_fallback);
        if sum.queries_from == crds::summary::QueryOrigin::None {
            sum.queries_from = *queries_from;
        }
        sum.fallback = match (sum.fallback, fallback) {
            // A toggle is one cause, whatever the number of collections.
            (Some(one), Some(other)) if one.source != FallbackSource::Toggle => {
                Some(Fallback { count: one.count + other.count, ..one })
            }
            (one, other) => one.or(*other),
        };
        sum.fallback_message = sum.fallback_message.take().or_else(|| fallback_message.clone());
    }
    for reranked in reranks.iter().skip(1) {
        sum.truncated_pairs += reranked.run.truncated_pairs;
        sum.batches += reranked.run.batches;
        sum.seconds += reranked.run.seconds;
    }
    if reranks.len() > 1 {
        // These are means and places of one collection.
        sum.median_query_seconds = None;
        sum.mean_top_score_before = None;
        sum.mean_top_score_after = None;
        sum.top_changed = None;
        sum.rankings = None;
    }
    sum
}
