//! Judges the lists of a collection: the quality of every list, if queries have judgements.

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    contract::RerankConfig,
    summary::{ListQuality, Quality},
};

use super::{
    candidates::CandidateLists,
    chunk_lookup::ChunkLookup,
    lists::QueryLists,
    metric::{MeanMetrics, Metric},
    queries::Query,
    top_k::Candidate,
};

/// The quality of the lists of a collection.
pub struct Judgement {
    /// The quality of every list, in the order of the stages.
    pub quality: Quality,
    /// The ids of relevant chunks that the collection does not have.
    pub unknown_ids: BTreeSet<String>,
}

/// Measures every list over the queries with a relevant chunk in the collection. `None` without judgements.
pub fn judge(
    config: &RerankConfig,
    queries: &[Query],
    retrieved: &[CandidateLists],
    lists: &QueryLists,
    lookup: &ChunkLookup,
) -> Option<Judgement> {
    let unknown_ids: BTreeSet<String> = queries
        .iter()
        .flat_map(|query| query.relevant.keys())
        .filter(|id| !lookup.relevant.contains_key(*id))
        .cloned()
        .collect();
    let judged: Vec<(usize, BTreeMap<u64, f64>)> = queries
        .iter()
        .enumerate()
        .map(|(index, query)| (index, lookup.grades(query)))
        .filter(|(_, grades)| !grades.is_empty())
        .collect();
    if judged.is_empty() && unknown_ids.is_empty() {
        return None;
    }
    let metrics = metrics(config);
    let quality = |stage: &str, model: Option<&String>, lists: &[Vec<Candidate>]| {
        let mut means = MeanMetrics::default();
        for (query, grades) in &judged {
            let list = lists.get(*query).map(Vec::as_slice).unwrap_or_default();
            let ranking: Vec<f64> =
                list.iter().map(|candidate| grades.get(&candidate.ordinal).copied().unwrap_or(0.0)).collect();
            means.add(&metrics, &ranking, &grades.values().copied().collect::<Vec<_>>());
        }
        ListQuality { stage: stage.into(), model: model.cloned(), metrics: means.means() }
    };
    let of_retriever = |CandidateLists { retriever, lists }: &CandidateLists| {
        quality(&retriever.stage, retriever.model.as_ref(), lists)
    };
    let mut measured: Vec<ListQuality> = retrieved.iter().map(of_retriever).collect();
    measured.push(quality("candidates", None, &lists.candidates));
    if let Some(reranked) = &lists.reranked {
        measured.push(quality("reranked", None, reranked));
    }
    let quality =
        Quality { judged_queries: judged.len() as u64, unknown_relevant: unknown_ids.len() as u64, lists: measured };
    Some(Judgement { quality, unknown_ids })
}

/// The metrics of every list, each once: the defaults, and the metric of the gate.
fn metrics(config: &RerankConfig) -> Vec<Metric> {
    let mut metrics =
        vec![Metric::Ndcg(10), Metric::Recall(10), Metric::Recall(config.candidates as usize), Metric::Mrr];
    metrics.extend(config.gate.as_ref().and_then(|gate| gate.metric.parse::<Metric>().ok()));
    let mut seen = BTreeSet::new();
    metrics.retain(|metric| seen.insert(*metric));
    metrics
}
