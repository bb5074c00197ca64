//! Outcomes and settings of the stages: device, sparse, fusion, rerank.

use crds::summary::{DeviceRun, Fallback, FusionRun, QueryOrigin, RerankRun, SparseRun};

use crate::format::{count, part, score, seconds, share};

/// The outcome of the sparse stage in a sentence.
pub fn sparse_outcome(run: &SparseRun) -> String {
    let outcome = outcome(run.enabled, run.executed, run.fallback.as_ref());
    match run.coverage {
        Some(coverage) => format!("{outcome}; {} of the rows have a vector from a model", share(coverage)),
        None => outcome,
    }
}

/// The outcome of the rerank stage in a sentence.
pub fn rerank_outcome(run: &RerankRun) -> String {
    outcome(run.enabled, run.executed, run.fallback.as_ref())
}

fn outcome(enabled: bool, executed: bool, fallback: Option<&Fallback>) -> String {
    match (enabled, executed, fallback) {
        (false, _, None) => "not requested".into(),
        // A file or the environment disables a stage whose model the spec names.
        (false, _, Some(fallback)) => format!("disabled by a toggle ({})", fallback.reason),
        (true, true, None) => "completed".into(),
        (true, true, Some(fallback)) => format!("completed in part ({})", fallback.reason),
        (true, false, Some(fallback)) => format!("skipped ({})", fallback.reason),
        (true, false, None) => "not run".into(),
    }
}

/// The fused vector as labelled values.
pub fn fusion(run: &FusionRun) -> Vec<(&'static str, String)> {
    let models: Vec<String> =
        run.models.iter().map(|fused| format!("{} {}", fused.model, share(fused.share))).collect();
    vec![
        ("column", run.column.clone()),
        ("method", run.method.clone()),
        ("models", models.join(", ")),
        ("dimensions", count(run.dimensions.into())),
        ("precision", run.precision.clone()),
        ("time", seconds(run.seconds)),
    ]
}

/// The rerank stage as labelled values.
pub fn rerank(run: &RerankRun) -> Vec<(&'static str, String)> {
    let queries = match run.queries_from {
        QueryOrigin::None => "none".into(),
        QueryOrigin::Spec => format!("{} from spec.rerank.queries", count(run.queries)),
        QueryOrigin::Headings => format!("{} from headings of the collection (no judgements)", count(run.queries)),
    };
    let mut facts = vec![("queries", queries)];
    facts.extend(run.model.as_ref().map(|model| ("model", model.model.clone())));
    facts.extend(run.device.as_ref().map(|device| match run.device_fallback {
        Some(reason) => ("device", format!("{device} ({reason})")),
        None => ("device", device.clone()),
    }));
    facts.extend(run.candidate_fusion.as_ref().map(|fusion| {
        ("candidates", {
            format!(
                "{} per query by {fusion}, top {} kept",
                count(run.candidates_per_query.into()),
                count(run.top_k.into())
            )
        })
    }));
    if run.executed {
        facts.push((
            "pairs",
            format!("{} scored, {} truncated", count(run.pairs), part(run.truncated_pairs, run.pairs)),
        ));
        let median = run.median_query_seconds.map(|time| format!(", {} per query (median)", seconds(time)));
        let latency = format!("{}{}", seconds(run.seconds), median.unwrap_or_default());
        facts.push(("latency", latency));
    }
    // The scores of a retriever and of a cross-encoder have different scales: their difference means nothing.
    if let (Some(before), Some(after)) = (run.mean_top_score_before, run.mean_top_score_after) {
        let scores = format!("{} before (retriever), {} after (cross-encoder)", score(before), score(after));
        facts.push(("mean top score", scores));
    }
    facts.extend(run.top_changed.map(|changed| ("top hit changed", format!("for {} of the queries", share(changed)))));
    facts.extend(run.rankings.as_ref().map(|file| ("rankings", file.clone())));
    facts
}

/// The devices that were used, comma-separated.
pub fn devices_used(run: &DeviceRun) -> String {
    if run.used.is_empty() { "none".into() } else { run.used.join(", ") }
}

#[cfg(test)]
mod tests {
    use crds::v1alpha1::{FallbackReason, FallbackSource};

    use super::*;

    #[test]
    fn a_stage_that_a_toggle_disabled_says_so() {
        let mut run = SparseRun::default();
        assert_eq!(sparse_outcome(&run), "not requested");
        run.fallback =
            Some(Fallback { reason: FallbackReason::FeatureDisabled, source: FallbackSource::Toggle, count: 1 });
        assert_eq!(sparse_outcome(&run), "disabled by a toggle (FeatureDisabled)");
    }
}
