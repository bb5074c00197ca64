//! One list of candidates per query: the lists of the retrievers fused, and the same chunks in the order of the
//! cross-encoder.

use crds::{summary::RerankRun, v1alpha1::CandidateFusion};

use super::{candidates::CandidateLists, rank_fusion, top_k::Candidate};
use crate::vectors::fusion;

/// The lists of all queries, in the order of the queries: before the rerank, and after it if it ran.
#[derive(Clone, Debug, Default)]
pub struct QueryLists {
    /// The fused candidates of the retrievers, the best first.
    pub candidates: Vec<Vec<Candidate>>,
    /// The same chunks in the order of the cross-encoder; `None` if the rerank did not run.
    pub reranked: Option<Vec<Vec<Candidate>>>,
}

impl QueryLists {
    /// Fuses the lists of the retrievers into one per query with at most `k` candidates: the lists of the fused vector,
    /// or else of the first dense model, and of the sparse models. Also returns whether several lists were fused.
    pub fn fuse(method: CandidateFusion, retrieved: &[CandidateLists], queries: usize, k: usize) -> (Self, bool) {
        let of_stage = |stage: &'static str| retrieved.iter().filter(move |lists| lists.retriever.stage == stage);
        let dense = of_stage(fusion::COLUMN).next().or_else(|| of_stage("dense").next());
        let used: Vec<&CandidateLists> = dense.into_iter().chain(of_stage("sparse")).collect();
        let list = |query: usize| match &used[..] {
            [] => Vec::new(),
            [only] => only.lists[query].clone(),
            several => {
                let lists: Vec<&[Candidate]> =
                    several.iter().map(|candidates| candidates.lists[query].as_slice()).collect();
                rank_fusion::fuse(method, &lists, k)
            }
        };
        let candidates = (0..queries).map(list).collect();
        (Self { candidates, reranked: None }, used.len() > 1)
    }

    /// The lists of the last stage that ran.
    pub fn last(&self) -> &[Vec<Candidate>] {
        self.reranked.as_ref().unwrap_or(&self.candidates)
    }

    /// Records in `stage` how the rerank changed the first chunk of the lists.
    pub fn record_changes(&self, stage: &mut RerankRun) {
        stage.mean_top_score_before = mean_top_score(&self.candidates);
        let Some(reranked) = &self.reranked else { return };
        stage.mean_top_score_after = mean_top_score(reranked);
        let pairs = self.candidates.iter().zip(reranked);
        let pairs = pairs.filter_map(|(before, after)| Some((before.first()?, after.first()?)));
        let changed: Vec<bool> = pairs.map(|(before, after)| before.ordinal != after.ordinal).collect();
        let count = changed.iter().filter(|changed| **changed).count();
        stage.top_changed = (!changed.is_empty()).then(|| count as f64 / changed.len() as f64);
    }
}

/// The mean score of the first chunk of every list that is not empty.
fn mean_top_score(lists: &[Vec<Candidate>]) -> Option<f64> {
    let scores: Vec<f64> = lists.iter().filter_map(|list| Some(f64::from(list.first()?.score))).collect();
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}
