//! Retrieval quality and the gate on it.

use std::collections::BTreeSet;

use crds::summary::{GateOutcome, Quality};

use crate::{
    format::{counted, digest, score},
    table::Table,
};

/// The names of all metrics of the lists, sorted.
pub fn metric_names(quality: &Quality) -> Vec<&str> {
    let names: BTreeSet<&str> = quality.lists.iter().flat_map(|list| list.metrics.keys()).map(String::as_str).collect();
    names.into_iter().collect()
}

/// One row per list of candidates, one column per metric.
pub fn quality(quality: &Quality) -> Table {
    let metrics = metric_names(quality);
    let titles: Vec<String> =
        ["list", "model"].into_iter().map(str::to_owned).chain(metrics.iter().map(|name| format!("#{name}"))).collect();
    Table::new(titles.iter().map(String::as_str)).of(quality.lists.iter().map(|list| {
        let values =
            metrics.iter().map(|name| list.metrics.get(*name).map_or_else(|| "–".into(), |value| score(*value)));
        [list.stage.clone(), list.model.clone().unwrap_or_default()].into_iter().chain(values).collect()
    }))
}

/// The judgements behind the metrics in a sentence.
pub fn judged_queries(quality: &Quality) -> String {
    let file = quality.queries_sha256.as_ref().map(|sha256| format!(" (sha256 {})", digest(sha256)));
    let queries = format!(
        "averages over {}{}",
        counted(quality.judged_queries, "judged query", "judged queries"),
        file.unwrap_or_default()
    );
    match quality.unknown_relevant {
        0 => queries,
        unknown => format!(
            "{queries}; {} not in the run and not found",
            counted(unknown, "chunk judged relevant is", "chunks judged relevant are")
        ),
    }
}

/// The verdict of the quality gate in a sentence.
pub fn gate(gate: &GateOutcome) -> String {
    let minimum = gate.minimum.map(|minimum| format!("at least {}", score(minimum)));
    let drop = gate.maximum_drop.map(|drop| match (gate.previous, &gate.not_compared) {
        (_, Some(why)) => format!("at most {} below the revision in use, which was not checked: {why}", score(drop)),
        (Some(previous), None) => format!("at most {} below {} of the revision in use", score(drop), score(previous)),
        (None, None) => format!("at most {} below the revision in use, but there is none", score(drop)),
    });
    let bounds: Vec<String> = minimum.into_iter().chain(drop).collect();
    let verdict = if gate.passed { "passed" } else { "failed: readers stay on the revision in use" };
    let required = if bounds.is_empty() { String::new() } else { format!(" (required: {})", bounds.join("; ")) };
    format!("{verdict}. {} is {}{required}", gate.metric, score(gate.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_gate_names_its_bounds() {
        let outcome = GateOutcome {
            metric: "ndcg@10".into(),
            value: 0.4,
            minimum: Some(0.35),
            maximum_drop: Some(0.02),
            previous: Some(0.43),
            not_compared: None,
            unknown_relevant: 0,
            passed: false,
        };
        assert_eq!(
            gate(&outcome),
            "failed: readers stay on the revision in use. ndcg@10 is 0.4000 (required: at least 0.3500; at most 0.0200 \
             below 0.4300 of the revision in use)"
        );
        let incomparable = GateOutcome { previous: None, not_compared: Some("other queries".into()), ..outcome };
        assert!(gate(&incomparable).contains("which was not checked: other queries"), "{}", gate(&incomparable));
    }
}
