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

/// The queries of a run, and where the chunks are that they mark as relevant.
#[derive(Clone, Copy, Debug)]
pub struct Judgements<'a> {
    /// The queries.
    pub queries: &'a [Query],
    /// The sha256 of their file, in hexadecimal; `None` if they are headings.
    pub sha256: Option<&'a str>,
    /// The relevant ids that are chunks of other collections of the run.
    pub elsewhere: &'a BTreeSet<String>,
}

impl Judgements<'_> {
    /// The grades of the ids that a query's chunks are measured by: first the chunks of this collection by ordinal, then
    /// the lost ones, which are chunks of no collection of the run. Lost ids count in the collections that have another
    /// relevant chunk of the query, and in all if there is none. `None` if the query is about other collections.
    fn grades(&self, query: &Query, lookup: &ChunkLookup) -> Option<(BTreeMap<u64, f64>, Vec<f64>)> {
        let here = lookup.grades(query);
        if here.is_empty() && query.relevant.keys().any(|id| self.elsewhere.contains(id)) {
            return None;
        }
        let lost: Vec<f64> =
            query.relevant.iter().filter(|(id, _)| self.is_lost(id, lookup)).map(|(_, grade)| *grade).collect();
        (!here.is_empty() || !lost.is_empty()).then_some((here, lost))
    }

    fn is_lost(&self, id: &str, lookup: &ChunkLookup) -> bool {
        !lookup.relevant.contains_key(id) && !self.elsewhere.contains(id)
    }
}

/// The quality of the lists of a collection.
pub struct Judgement {
    /// The quality of every list, in the order of the stages.
    pub quality: Quality,
    /// The ids of relevant chunks that no collection of the run has.
    pub unknown_ids: BTreeSet<String>,
}

/// Measures every list over the queries that are about the collection. A relevant id that is no chunk counts as not found,
/// as in trec_eval: otherwise a collection that loses chunks would look better. `None` without judgements.
pub fn judge(
    config: &RerankConfig,
    judgements: Judgements<'_>,
    retrieved: &[CandidateLists],
    lists: &QueryLists,
    lookup: &ChunkLookup,
) -> Option<Judgement> {
    let queries = judgements.queries;
    let unknown_ids: BTreeSet<String> = queries
        .iter()
        .flat_map(|query| query.relevant.keys())
        .filter(|id| judgements.is_lost(id, lookup))
        .cloned()
        .collect();
    let judged: Vec<(usize, BTreeMap<u64, f64>, Vec<f64>)> = queries
        .iter()
        .enumerate()
        .filter_map(|(index, query)| {
            let (here, lost) = judgements.grades(query, lookup)?;
            let all = here.values().copied().chain(lost).collect();
            Some((index, here, all))
        })
        .collect();
    if judged.is_empty() {
        return None;
    }
    let metrics = metrics(config);
    let quality = |stage: &str, model: Option<&String>, lists: &[Vec<Candidate>]| {
        let mut means = MeanMetrics::default();
        for (query, grades, all) in &judged {
            let list = lists.get(*query).map(Vec::as_slice).unwrap_or_default();
            let ranking: Vec<f64> =
                list.iter().map(|candidate| grades.get(&candidate.ordinal).copied().unwrap_or(0.0)).collect();
            means.add(&metrics, &ranking, all);
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
    let counted: BTreeSet<&String> = judged
        .iter()
        .flat_map(|(index, ..)| queries[*index].relevant.keys())
        .filter(|id| unknown_ids.contains(*id))
        .collect();
    let quality = Quality {
        judged_queries: judged.len() as u64,
        unknown_relevant: counted.len() as u64,
        queries_sha256: judgements.sha256.map(ToOwned::to_owned),
        lists: measured,
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Two queries about chunks 0 to 3 of this collection, and about ids that it does not have.
    fn measured(elsewhere: &[&str], candidates: [&[u64]; 2]) -> Option<(u64, u64, f64, f64)> {
        let query = |id: &str, relevant: &[&str]| Query {
            id: id.into(),
            text: id.into(),
            relevant: relevant.iter().map(|id| ((*id).to_owned(), 1.0)).collect(),
        };
        let queries = [query("q1", &["c0", "c1", "gone"]), query("q2", &["far"])];
        let relevant = (0..4).map(|ordinal| (format!("c{ordinal}"), ordinal)).collect();
        let lookup = ChunkLookup { relevant, ..ChunkLookup::default() };
        let list = |ordinals: &[u64]| ordinals.iter().map(|&ordinal| Candidate { ordinal, score: 1.0 }).collect();
        let lists = QueryLists { candidates: candidates.map(list).into(), reranked: None };
        let elsewhere = elsewhere.iter().map(|id| (*id).to_owned()).collect();
        let judgements = Judgements { queries: &queries, sha256: Some("ab"), elsewhere: &elsewhere };
        let Judgement { quality, .. } = judge(&RerankConfig::default(), judgements, &[], &lists, &lookup)?;
        assert_eq!(quality.queries_sha256.as_deref(), Some("ab"));
        let metrics = &quality.lists.last()?.metrics;
        Some((quality.judged_queries, quality.unknown_relevant, metrics["recall@10"], metrics["ndcg@10"]))
    }

    #[test]
    fn relevant_ids_that_are_no_chunks_count_as_not_found() {
        let (judged, unknown, recall, ndcg) = measured(&[], [&[0, 1], &[2]]).expect("judged");
        // Two of three, and none of one.
        assert_eq!((judged, unknown), (2, 2));
        assert!((recall - 2.0 / 6.0).abs() < 1e-9, "{recall}");
        let ideal = 1.0 + 1.0 / 3f64.log2() + 0.5;
        assert!((ndcg - (1.0 + 1.0 / 3f64.log2()) / ideal / 2.0).abs() < 1e-9, "{ndcg}");
    }

    #[test]
    fn a_query_about_another_collection_is_not_judged_here() {
        let (judged, unknown, recall, _) = measured(&["far"], [&[0, 1], &[2]]).expect("judged");
        assert_eq!((judged, unknown), (1, 1));
        assert!((recall - 2.0 / 3.0).abs() < 1e-9, "{recall}");
    }
}
