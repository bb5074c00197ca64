//! The rerank of a collection: candidates of all shards and retrievers → one list per query → the cross-encoder →
//! rankings, and with judgements the quality of every list and the outcome of the gate.

use std::collections::{BTreeMap, BTreeSet};

use crds::{
    contract::{FailureReason, RerankConfig, RerankerConfig},
    summary::{Example, Fallback, GateOutcome, Quality, RerankRun},
    v1alpha1::{CandidateFusion, FallbackReason, FallbackSource},
};

use super::{Run, commit::Commit};
use crate::{
    device::{Ledger, Trace},
    model::Score,
    pass::rerank::{self as rerank_pass, QueryDocuments, RerankFailure, RerankScores},
    plan::{Plan, PlannedCollection},
    process::{
        error::{Result, StageError},
        metrics::METRICS,
        progress::Progress,
        telemetry::{self, timed},
    },
    retrieval::{
        candidate_file::{self, CandidateFile},
        chunk_lookup::{ChunkLookup, present_ids},
        gate,
        lists::QueryLists,
        quality::{Judgement, Judgements, judge},
        queries::{Queries, Query},
        rankings,
        top_k::Candidate,
    },
};

/// The output of the rerank of a collection.
#[derive(Clone, Debug, Default)]
pub struct Reranked {
    /// The record of the stage for the summary.
    pub run: RerankRun,
    /// The quality of every list; `None` without judgements.
    pub quality: Option<Quality>,
    /// The ids of relevant chunks that no collection of the run has.
    pub unknown_ids: BTreeSet<String>,
    /// The outcome of the gate, if there is one and its metric was measured.
    pub gate: Option<GateOutcome>,
    /// A few queries with the chunks that they found.
    pub examples: Vec<Example>,
    /// The leases, mitigations and throughput of the cross-encoder's pass.
    pub trace: Trace,
}

/// The ids of a run's collections that queries mark as relevant: which of them are chunks of which collection.
#[derive(Clone, Debug, Default)]
pub struct RelevantIds(BTreeMap<String, BTreeSet<String>>);

impl RelevantIds {
    /// Looks the ids up in the files of all shards. A run with one collection needs no look: an id is there, or nowhere.
    ///
    /// # Errors
    /// If the queries or a file cannot be read, or the run is interrupted.
    pub fn read(run: &Run, plan: &Plan, commits: &[Commit]) -> Result<Self> {
        let place = run.config.rerank.as_ref().and_then(|rerank| rerank.queries.as_ref());
        if plan.collections.len() < 2 || !run.retrieves_candidates() || place.is_none() {
            return Ok(Self::default());
        }
        let mut ids = BTreeMap::new();
        for planned in &plan.collections {
            let queries = Queries::load(plan, planned, place)?.queries;
            let files = commits.iter().filter(|commit| commit.collection == planned.name);
            let files: Vec<&str> = files.map(|commit| commit.file.as_str()).collect();
            ids.insert(planned.name.clone(), present_ids(&run.store, &files, &queries, &run.interrupt)?);
        }
        Ok(Self(ids))
    }

    /// The ids that are chunks of other collections than this one.
    fn elsewhere(&self, collection: &str) -> BTreeSet<String> {
        self.0.iter().filter(|(name, _)| *name != collection).flat_map(|(_, ids)| ids.clone()).collect()
    }
}

/// Reranks one collection; `relevant` has the relevant ids of all collections.
///
/// # Errors
/// If the candidates or the queries cannot be read, the store fails, the run is interrupted, or the cross-encoder fails
/// and that is not a fallback.
pub fn rerank(
    run: &Run,
    plan: &Plan,
    planned: &PlannedCollection,
    commits: &[&Commit],
    relevant: &RelevantIds,
) -> Result<Reranked> {
    let config = run.config.rerank.clone().unwrap_or_default();
    let mut stage = stage_without_scores(run, &config);
    if !run.retrieves_candidates() {
        return Ok(Reranked { run: stage, ..Reranked::default() });
    }
    let Queries { origin, queries } = Queries::load(plan, planned, config.queries.as_ref())?;
    stage.queries_from = origin;
    stage.queries = queries.len() as u64;
    let k = config.candidates as usize;
    let files: Vec<&CandidateFile> = commits.iter().filter_map(|commit| commit.candidates.as_ref()).collect();
    let retrieved = candidate_file::merge(&run.store, &files, k)?;
    let method = run.config.fusion.candidates.unwrap_or(CandidateFusion::ReciprocalRankFusion);
    let (mut lists, fused) = QueryLists::fuse(method, &retrieved, queries.len(), k);
    stage.candidate_fusion = fused.then(|| format!("{method:?}"));
    let ordinals: BTreeSet<u64> = lists.candidates.iter().flatten().map(|candidate| candidate.ordinal).collect();
    let shard_files: Vec<&str> = commits.iter().map(|commit| commit.file.as_str()).collect();
    let lookup = ChunkLookup::read(&run.store, &shard_files, &ordinals, &queries, &run.interrupt)?;
    let ledger = Ledger::default();
    if let Some(reranker) = run.config.reranker.as_ref().filter(|_| run.toggles.features.rerank) {
        let span = tracing::info_span!(telemetry::RERANK, collection = planned.name, model = reranker.name);
        let work = || score(run, plan, reranker, &queries, &lists.candidates, &lookup, &mut stage, &ledger);
        let (reranked, seconds) = timed(span, work);
        stage.seconds = seconds;
        lists.reranked = reranked?;
        stage.executed = lists.reranked.is_some();
    }
    lists.record_changes(&mut stage);
    let elsewhere = relevant.elsewhere(&planned.name);
    let judgements = Judgements { queries: &queries, sha256: plan.queries_sha256.as_deref(), elsewhere: &elsewhere };
    let judgement = judge(&config, judgements, &retrieved, &lists, &lookup);
    let gate = match (&config.gate, &judgement) {
        (Some(gate), Some(judgement)) => {
            let revision = (&run.config.run, &run.config.revision);
            gate::evaluate(gate, &judgement.quality, &run.store, revision, &planned.name)?
        }
        _ => None,
    };
    let ranked = rankings::rank(config.top_k as usize, &queries, &lists, &lookup);
    stage.rankings = Some(rankings::write(&run.store, &run.config.revision, &planned.name, &ranked)?);
    let (quality, unknown_ids) = match judgement {
        Some(Judgement { quality, unknown_ids }) => (Some(quality), unknown_ids),
        None => (None, BTreeSet::new()),
    };
    let examples = rankings::examples(&ranked, &lists, &lookup);
    Ok(Reranked { run: stage, quality, unknown_ids, gate, examples, trace: ledger.into_trace() })
}

/// The record of a stage that has not scored anything, with the fallback that the toggles imply.
fn stage_without_scores(run: &Run, config: &RerankConfig) -> RerankRun {
    let enabled = run.toggles.features.rerank;
    let mut stage =
        RerankRun { enabled, candidates_per_query: config.candidates, top_k: config.top_k, ..RerankRun::default() };
    if run.toggles.switched_off("rerank", enabled, run.config.reranker.is_some()) {
        stage.fallback = Some(count_fallback(FallbackReason::FeatureDisabled, FallbackSource::Toggle));
    } else if enabled && run.config.reranker.is_none() {
        let message = "the toggle rerank is on, but the run has no reranker (spec.models.reranker)";
        fall_back(&mut stage, FallbackReason::ModelUnavailable, FallbackSource::Toggle, message.into());
    }
    stage
}

/// The lists in the order of the cross-encoder; `None` if the stage fell back, which `stage` records.
#[allow(clippy::too_many_arguments)]
fn score(
    run: &Run,
    plan: &Plan,
    config: &RerankerConfig,
    queries: &[Query],
    lists: &[Vec<Candidate>],
    lookup: &ChunkLookup,
    stage: &mut RerankRun,
    ledger: &Ledger,
) -> Result<Option<Vec<Vec<Candidate>>>> {
    if queries.is_empty() {
        let message =
            "the run has no queries (spec.rerank.queries), and the chunks have no headings to use in their place";
        fall_back(stage, FallbackReason::NoQueries, FallbackSource::Input, message.into());
        return Ok(None);
    }
    if lists.iter().all(Vec::is_empty) {
        let message = "no query has a candidate";
        fall_back(stage, FallbackReason::NoCandidates, FallbackSource::Runtime, message.into());
        return Ok(None);
    }
    let devices = run.devices()?;
    stage.device = Some(devices.used.used.clone());
    stage.device_fallback = devices.used.fallback;
    if let Some(reason) = devices.used.fallback {
        METRICS.fallback("device", reason, FallbackSource::Load, 1);
    }
    let source = plan.pinned(&config.name, &config.source);
    let documents: Vec<QueryDocuments<'_>> =
        queries.iter().zip(lists).map(|(query, list)| query_documents(query, list, lookup)).collect::<Result<_>>()?;
    let progress = Progress::bar(run.show_progress, "rerank", lists.iter().map(|list| list.len() as u64).sum());
    let output = rerank_pass::pass(run.pass_context(plan, &devices, ledger), config, &source, &documents, &progress)?;
    stage.model = output.model;
    match output.scores {
        Ok(RerankScores { scores, record, mut query_seconds }) => {
            stage.pairs = record.items;
            stage.tokens = record.tokens;
            stage.truncated_pairs = record.truncated;
            stage.batches = record.batches;
            query_seconds.sort_by(f64::total_cmp);
            stage.median_query_seconds = query_seconds.get(query_seconds.len() / 2).copied();
            Ok(Some(lists.iter().zip(scores).map(|(list, scores)| reorder(list, &scores)).collect()))
        }
        Err(RerankFailure { reason, source, error }) => {
            tracing::warn!(%reason, "rerank failed, keeping the order of the candidates: {}", error.sentence());
            fall_back(stage, reason, source, error.sentence());
            Ok(None)
        }
    }
}

/// A query with the texts of its candidates.
///
/// # Errors
/// If a candidate has no text: it would be scored as an empty document.
fn query_documents<'a>(query: &'a Query, list: &[Candidate], lookup: &ChunkLookup) -> Result<QueryDocuments<'a>> {
    let text = |candidate: &Candidate| {
        let chunk = lookup.chunks.get(&candidate.ordinal).ok_or_else(|| {
            let message = format!("query {:?}: candidate chunk {} has no text", query.id, candidate.ordinal);
            StageError::new(FailureReason::Internal, message)
        })?;
        Ok(chunk.text.clone())
    };
    Ok(QueryDocuments { id: &query.id, text: &query.text, documents: list.iter().map(text).collect::<Result<_>>()? })
}

/// The candidates with these scores, the best first. An activation such as the logistic function gives many pairs the same
/// score, 1.0 for every logit above 17; their logits decide then, and of equal logits the order before.
fn reorder(list: &[Candidate], scores: &[Score]) -> Vec<Candidate> {
    let mut pairs: Vec<(u64, &Score)> = list.iter().map(|candidate| candidate.ordinal).zip(scores).collect();
    // A stable sort keeps the order before.
    pairs.sort_by(|(_, left), (_, right)| right.score.total_cmp(&left.score).then(right.logit.total_cmp(&left.logit)));
    pairs.into_iter().map(|(ordinal, score)| Candidate { ordinal, score: score.score }).collect()
}

fn fall_back(stage: &mut RerankRun, reason: FallbackReason, source: FallbackSource, message: String) {
    stage.fallback = Some(count_fallback(reason, source));
    stage.fallback_message = Some(message);
}

fn count_fallback(reason: FallbackReason, source: FallbackSource) -> Fallback {
    METRICS.fallback("rerank", reason, source, 1);
    Fallback { reason, source, count: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saturated_score_is_ordered_by_its_logit_and_then_by_the_rank_before() {
        let list: Vec<Candidate> = [7, 3, 9, 1].map(|ordinal| Candidate { ordinal, score: 0.5 }).into();
        let scores = [(21.0, 1.0), (20.0, 1.0), (25.0, 1.0), (20.0, 1.0)].map(|(logit, score)| Score { logit, score });
        let reordered = reorder(&list, &scores);
        // Chunks 3 and 1 have the same logit: 3 was before 1.
        assert_eq!(reordered.iter().map(|candidate| candidate.ordinal).collect::<Vec<_>>(), [9, 7, 3, 1]);
        assert!(reordered.iter().all(|candidate| (candidate.score - 1.0).abs() < f32::EPSILON));
        // Of an activation that falls, the score decides, not the logit.
        let falling = [(-3.0, -0.14), (-1.0, -0.27), (-0.5, -0.19), (0.0, 0.0)];
        let reordered = reorder(&list, &falling.map(|(logit, score)| Score { logit, score }));
        assert_eq!(reordered.iter().map(|candidate| candidate.ordinal).collect::<Vec<_>>(), [1, 7, 9, 3]);
    }

    #[test]
    fn a_candidate_without_a_text_is_an_error() {
        let query = Query { id: "q".into(), text: "t".into(), relevant: BTreeMap::new() };
        let list = [Candidate { ordinal: 5, score: 1.0 }];
        let Err(error) = query_documents(&query, &list, &ChunkLookup::default()) else { panic!("no error") };
        assert!(error.sentence().contains("\"q\": candidate chunk 5 has no text"), "{}", error.sentence());
    }
}
