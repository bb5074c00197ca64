//! The rerank stage of a collection: candidates of all shards and retrievers → one list per query → the cross-encoder →
//! rankings, and where judgements are given the quality of every list and the word of the gate.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crds::{
    contract::{FailureReason, RerankConfig, RerankerConfig},
    layout,
    summary::{Example, ExampleHit, Fallback, GateOutcome, ListQuality, Quality, RerankModel, RerankRun},
    v1alpha1::{CandidateFusion, FallbackReason, FallbackSource},
};

use super::{
    Commit, Run,
    candidates::{self, CandidateFile, Found},
    dense::fallback_reason,
    rankings::{self, Looked, Ranked, Ranking},
    turn::Turn,
};
use crate::{
    batched::{PassError, PassRecord},
    error::{Result, StageError},
    fusion,
    gpu::{Holder, Ledger, Trace},
    hub,
    interrupt::Interrupt,
    metrics::METRICS,
    model::{Pair, Reranker, Score},
    plan::{Plan, PlannedCollection},
    progress::Progress,
    quality::{Means, Metric},
    queries::Queries,
    retrieve::Candidate,
    telemetry::{self, timed},
};

/// Queries that the summary shows, and chunks of each.
const EXAMPLES: (usize, usize) = (5, 3);
/// Characters of a text that the summary shows.
const EXCERPT: usize = 160;

/// What the stage gave for a collection.
#[derive(Clone, Debug, Default)]
pub struct Reranked {
    /// The stage.
    pub run: RerankRun,
    /// The quality of every list.
    pub quality: Option<Quality>,
    /// Relevant ids that the collection does not have.
    pub unknown: BTreeSet<String>,
    /// What the gate said.
    pub gate: Option<GateOutcome>,
    /// A few queries with what was found.
    pub examples: Vec<Example>,
    /// What is on record about the model's turn.
    pub trace: Trace,
}

/// A list per query before the cross-encoder, and after it where it ran.
struct Lists {
    before: Vec<Vec<Candidate>>,
    after: Option<Vec<Vec<Candidate>>>,
}

/// Runs the stage for one collection.
pub fn rerank(run: &Run, plan: &Plan, planned: &PlannedCollection, commits: &[&Commit]) -> Result<Reranked> {
    let features = &run.toggles.features;
    let config = run.config.rerank.clone().unwrap_or_default();
    let mut stage = RerankRun {
        enabled: features.rerank,
        candidates_per_query: config.candidates,
        top_k: config.top_k,
        ..RerankRun::default()
    };
    if run.toggles.switched_off("rerank", features.rerank, run.config.reranker.is_some()) {
        stage.fallback = Some(fallback(FallbackReason::FeatureDisabled, FallbackSource::Toggle));
    } else if features.rerank && run.config.reranker.is_none() {
        stage.fallback = Some(fallback(FallbackReason::ModelUnavailable, FallbackSource::Toggle));
        stage.fallback_message =
            Some("rerank is switched on, but the run has no reranker (spec.models.reranker)".into());
    }
    if !run.wants_candidates() {
        return Ok(Reranked { run: stage, ..Reranked::default() });
    }
    let queries = Queries::of(plan, planned, config.queries.as_ref())?;
    stage.queries_from = queries.origin;
    stage.queries = queries.queries.len() as u64;
    let files: Vec<&CandidateFile> = commits.iter().filter_map(|commit| commit.candidates.as_ref()).collect();
    let found = candidates::merge(&run.store, &files, config.candidates as usize)?;
    let method = run.config.fusion.candidates.unwrap_or(CandidateFusion::ReciprocalRankFusion);
    let (before, several) = one_list(method, &found, queries.queries.len(), config.candidates as usize);
    stage.candidate_fusion = several.then(|| format!("{method:?}"));
    let wanted: BTreeSet<u64> = before.iter().flatten().map(|candidate| candidate.ordinal).collect();
    let looked = rankings::look_up(run, commits, &wanted, &queries.queries)?;
    let mut lists = Lists { before, after: None };
    let ledger = Ledger::default();
    if let Some(reranker) = run.config.reranker.as_ref().filter(|_| features.rerank) {
        let span = tracing::info_span!(telemetry::RERANK, collection = planned.name, model = reranker.name);
        let (scored, seconds) =
            timed(span, || score(run, plan, reranker, &queries, &lists.before, &looked, &mut stage, &ledger));
        stage.seconds = seconds;
        lists.after = scored?;
        stage.executed = lists.after.is_some();
    }
    compare(&lists, &mut stage);
    let judged = judge(&config, &queries, &found, &lists, &looked);
    let gate = match (&config.gate, &judged) {
        (Some(gate), Some((quality, _))) => {
            let value = last_value(quality, &gate.metric);
            // Only a drop asks what was before.
            let compared = gate.maximum_drop.is_some();
            let previous = if compared { previous_value(run, &planned.name, &gate.metric)? } else { None };
            value.map(|value| outcome(gate, value, previous))
        }
        _ => None,
    };
    let rankings = rank(&config, &queries, &lists, &looked);
    stage.rankings = Some(rankings::write(run, &planned.name, &rankings)?);
    let (quality, unknown) = judged.map_or((None, BTreeSet::new()), |(quality, unknown)| (Some(quality), unknown));
    let trace = ledger.into_trace();
    Ok(Reranked { run: stage, quality, unknown, gate, examples: examples(&rankings, &lists, &looked), trace })
}

fn fallback(reason: FallbackReason, source: FallbackSource) -> Fallback {
    METRICS.fallback("rerank", reason, source, 1);
    Fallback { reason, source, count: 1 }
}

/// One list per query out of those of the fused vector, or else of the first model, and of the sparse models; and whether
/// it was made of several.
fn one_list(method: CandidateFusion, found: &[Found], queries: usize, most: usize) -> (Vec<Vec<Candidate>>, bool) {
    let of_stage = |stage: &'static str| found.iter().filter(move |found| found.retriever.stage == stage);
    let dense = of_stage(fusion::COLUMN).next().or_else(|| of_stage("dense").next());
    let used: Vec<&Found> = dense.into_iter().chain(of_stage("sparse")).collect();
    let list = |query: usize| match &used[..] {
        [] => Vec::new(),
        [one] => one.lists[query].clone(),
        several => {
            let lists: Vec<&[Candidate]> = several.iter().map(|found| found.lists[query].as_slice()).collect();
            fusion::candidates(method, &lists, most)
        }
    };
    ((0..queries).map(list).collect(), used.len() > 1)
}

/// The lists in the order of the cross-encoder; none where it fell back, which the stage then says.
#[allow(clippy::too_many_arguments)]
fn score(
    run: &Run,
    plan: &Plan,
    config: &RerankerConfig,
    queries: &Queries,
    before: &[Vec<Candidate>],
    looked: &Looked,
    stage: &mut RerankRun,
    ledger: &Ledger,
) -> Result<Option<Vec<Vec<Candidate>>>> {
    if queries.queries.is_empty() {
        stage.fallback = Some(fallback(FallbackReason::NoQueries, FallbackSource::Input));
        stage.fallback_message = Some("no queries are given, and the chunks have no headings to probe with".into());
        return Ok(None);
    }
    if before.iter().all(Vec::is_empty) {
        stage.fallback = Some(fallback(FallbackReason::NoCandidates, FallbackSource::Runtime));
        stage.fallback_message = Some("no query found a chunk".into());
        return Ok(None);
    }
    let devices = run.devices()?;
    stage.device = Some(devices.used.used.clone());
    stage.device_fallback = devices.used.fallback;
    if let Some(reason) = devices.used.fallback {
        METRICS.fallback("device", reason, FallbackSource::Load, 1);
    }
    let holder = Holder { stage: "rerank", model: &config.name, shard: None };
    let mut turn = Turn::begin(run, holder, &devices, ledger)?;
    let source = plan.pinned(&config.name, &config.source);
    let max_tokens = config.max_tokens.map(|tokens| tokens as usize);
    let loaded = run.resident.get("rerank", &config.name, &devices, |device| {
        let folder = hub::folder(&config.name, &source, &run.interrupt)?;
        Ok(Reranker::load(&config.name, &folder, max_tokens, &device.device)?)
    });
    let models = match loaded {
        Ok(models) => models,
        Err(error) => {
            let reason = fallback_reason(&error).filter(|_| config.optional);
            let Some(reason) = reason else { return Err(error) };
            fell_back(stage, reason, FallbackSource::Load, &error);
            return Ok(None);
        }
    };
    stage.model = Some(RerankModel {
        model: config.name.clone(),
        source: source.uri,
        weights_sha256: models[0].digest().to_owned(),
        dtype: models[0].dtype().name().to_owned(),
    });
    match score_all(run, &mut turn, &models, queries, before, looked) {
        Ok((after, record, mut latencies)) => {
            stage.pairs = record.items;
            stage.tokens = record.tokens;
            stage.truncated_pairs = record.truncated;
            stage.batches = record.batches;
            latencies.sort_by(f64::total_cmp);
            stage.median_query_seconds = latencies.get(latencies.len() / 2).copied();
            Ok(Some(after))
        }
        Err(error) => {
            // The vectors are there; that they could not be reranked is said, and readers may still use them.
            let Some(reason) = fallback_reason(&error) else { return Err(error) };
            fell_back(stage, reason, FallbackSource::Runtime, &error);
            Ok(None)
        }
    }
}

fn fell_back(stage: &mut RerankRun, reason: FallbackReason, source: FallbackSource, error: &StageError) {
    tracing::warn!(%reason, "not reranked: {}", error.sentence());
    stage.fallback = Some(fallback(reason, source));
    stage.fallback_message = Some(error.sentence());
}

/// Query after query, so that the time of each is known.
fn score_all(
    run: &Run,
    turn: &mut Turn<'_>,
    models: &[Arc<Reranker>],
    queries: &Queries,
    before: &[Vec<Candidate>],
    looked: &Looked,
) -> Result<(Vec<Vec<Candidate>>, PassRecord, Vec<f64>)> {
    let progress = Progress::bar(run.watched, "rerank", before.iter().map(|list| list.len() as u64).sum());
    let mut whole = PassRecord::default();
    let mut latencies = Vec::with_capacity(before.len());
    let mut after = Vec::with_capacity(before.len());
    for (query, list) in queries.queries.iter().zip(before) {
        let text: Arc<str> = query.text.as_str().into();
        let pair = |candidate: &Candidate| {
            let document = looked.chunks.get(&candidate.ordinal).map(|chunk| chunk.text.clone()).unwrap_or_default();
            Ok(Pair { query: text.clone(), document })
        };
        let start = progress.position();
        let mut given: Vec<Score> = Vec::with_capacity(list.len());
        let sink = |rows: Vec<Score>| {
            given.extend(rows);
            Ok(())
        };
        let record = turn.run(models, list.iter().map(pair), |done| progress.set(start + done), sink);
        let record = record.map_err(|error| match error {
            PassError::Model(error) => {
                StageError::new(error.reason(), format!("query {:?} cannot be scored", query.id)).caused_by(error)
            }
            PassError::Cancelled => Interrupt::error(),
            PassError::Source(error) | PassError::Sink(error) => error,
        })?;
        latencies.push(record.seconds);
        whole.add(&record);
        let scored = list.iter().zip(given);
        let mut scored: Vec<Candidate> =
            scored.map(|(candidate, score)| Candidate { ordinal: candidate.ordinal, score: score.score }).collect();
        scored.sort_by(Candidate::better_first);
        after.push(scored);
    }
    progress.finish();
    Ok((after, whole, latencies))
}

/// What the cross-encoder changed.
fn compare(lists: &Lists, stage: &mut RerankRun) {
    let top = |lists: &[Vec<Candidate>]| -> Option<f64> {
        let scores: Vec<f64> = lists.iter().filter_map(|list| Some(f64::from(list.first()?.score))).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    };
    stage.mean_top_score_before = top(&lists.before);
    if let Some(after) = &lists.after {
        stage.mean_top_score_after = top(after);
        let pairs =
            lists.before.iter().zip(after).filter_map(|(before, after)| Some((before.first()?, after.first()?)));
        let changed: Vec<bool> = pairs.map(|(before, after)| before.ordinal != after.ordinal).collect();
        let count = changed.iter().filter(|changed| **changed).count();
        stage.top_changed = (!changed.is_empty()).then(|| count as f64 / changed.len() as f64);
    }
}

/// The quality of every list over the queries with a relevant chunk in the collection, and the relevant ids that it does
/// not have; none without judgements.
fn judge(
    config: &RerankConfig,
    queries: &Queries,
    found: &[Found],
    lists: &Lists,
    looked: &Looked,
) -> Option<(Quality, BTreeSet<String>)> {
    let unknown: BTreeSet<String> = queries
        .queries
        .iter()
        .flat_map(|query| query.relevant.keys())
        .filter(|id| !looked.relevant.contains_key(*id))
        .cloned()
        .collect();
    let judged: Vec<(usize, BTreeMap<u64, f64>)> = queries
        .queries
        .iter()
        .enumerate()
        .map(|(index, query)| (index, looked.grades(query)))
        .filter(|(_, grades)| !grades.is_empty())
        .collect();
    if judged.is_empty() && unknown.is_empty() {
        return None;
    }
    let mut metrics =
        vec![Metric::Ndcg(10), Metric::Recall(10), Metric::Recall(config.candidates as usize), Metric::Mrr];
    metrics.extend(config.gate.as_ref().and_then(|gate| gate.metric.parse::<Metric>().ok()));
    let mut seen = BTreeSet::new();
    metrics.retain(|metric| seen.insert(*metric));
    let quality = |stage: &str, model: Option<&String>, of: &[Vec<Candidate>]| {
        let mut means = Means::default();
        for (query, grades) in &judged {
            let list = of.get(*query).map(Vec::as_slice).unwrap_or_default();
            let ranking: Vec<f64> =
                list.iter().map(|candidate| grades.get(&candidate.ordinal).copied().unwrap_or(0.0)).collect();
            means.add(&metrics, &ranking, &grades.values().copied().collect::<Vec<_>>());
        }
        ListQuality { stage: stage.into(), model: model.cloned(), metrics: means.means() }
    };
    let mut all: Vec<ListQuality> = found
        .iter()
        .map(|found| quality(&found.retriever.stage, found.retriever.model.as_ref(), &found.lists))
        .collect();
    all.push(quality("candidates", None, &lists.before));
    if let Some(after) = &lists.after {
        all.push(quality("reranked", None, after));
    }
    let unknown_relevant = unknown.len() as u64;
    Some((Quality { judged_queries: judged.len() as u64, unknown_relevant, lists: all }, unknown))
}

/// The value of a metric of the last list that was made.
fn last_value(quality: &Quality, metric: &str) -> Option<f64> {
    quality.lists.last()?.metrics.get(metric).copied()
}

/// The value that the revision has which readers use now; none where there is none, or it did not measure.
fn previous_value(run: &Run, collection: &str, metric: &str) -> Result<Option<f64>> {
    let Some(pointer) = run.store.get(&layout::current(collection))? else { return Ok(None) };
    let revision = crds::identity::Revision::from_recorded(String::from_utf8_lossy(&pointer).trim());
    if revision == run.config.revision {
        return Ok(None);
    }
    let Some(bytes) = run.store.get(&layout::collection_summary(&revision, collection))? else { return Ok(None) };
    let uri = run.config.output.uri_of(&layout::collection_summary(&revision, collection));
    let summary = report::read(&bytes, &uri).map_err(|error| {
        let message = format!("spec.rerank.gate.maximumDrop: the revision before cannot be compared with: {error}");
        StageError::new(FailureReason::InvalidConfiguration, message)
    })?;
    Ok(summary.quality.and_then(|quality| last_value(&quality, metric)))
}

fn outcome(gate: &crds::v1alpha1::GateSpec, value: f64, previous: Option<f64>) -> GateOutcome {
    let high = gate.minimum.is_none_or(|minimum| value >= minimum);
    let kept = gate.maximum_drop.zip(previous).is_none_or(|(drop, previous)| value >= previous - drop);
    GateOutcome {
        metric: gate.metric.clone(),
        value,
        minimum: gate.minimum,
        maximum_drop: gate.maximum_drop,
        previous,
        passed: high && kept,
    }
}

fn rank(config: &RerankConfig, queries: &Queries, lists: &Lists, looked: &Looked) -> Vec<Ranking> {
    let last = lists.after.as_ref().unwrap_or(&lists.before);
    let ranking = |(index, query): (usize, &crate::queries::Query)| {
        let before: BTreeMap<u64, (u32, f32)> = (1u32..)
            .zip(&lists.before[index])
            .map(|(rank, candidate)| (candidate.ordinal, (rank, candidate.score)))
            .collect();
        let ranked = |candidate: &Candidate| {
            let earlier = lists.after.as_ref().and_then(|_| before.get(&candidate.ordinal));
            Some(Ranked {
                id: looked.chunks.get(&candidate.ordinal)?.id.clone(),
                score: candidate.score,
                rank_before: earlier.map(|(rank, _)| *rank),
                score_before: earlier.map(|(_, score)| *score),
            })
        };
        let results = last[index].iter().take(config.top_k as usize).filter_map(ranked).collect();
        Ranking { query: query.id.clone(), text: query.text.clone(), results }
    };
    queries.queries.iter().enumerate().map(ranking).collect()
}

fn examples(rankings: &[Ranking], lists: &Lists, looked: &Looked) -> Vec<Example> {
    let last = lists.after.as_ref().unwrap_or(&lists.before);
    let example = |(ranking, list): (&Ranking, &Vec<Candidate>)| Example {
        query: ranking.text.clone(),
        found: ranking
            .results
            .iter()
            .zip(list)
            .take(EXAMPLES.1)
            .map(|(ranked, candidate)| ExampleHit {
                id: ranked.id.clone(),
                text: looked
                    .chunks
                    .get(&candidate.ordinal)
                    .map(|chunk| chunk.text.chars().take(EXCERPT).collect())
                    .unwrap_or_default(),
                score: f64::from(ranked.score),
                rank_before: ranked.rank_before,
            })
            .collect(),
    };
    rankings.iter().zip(last).take(EXAMPLES.0).map(example).collect()
}

#[cfg(test)]
mod tests {
    use crds::v1alpha1::GateSpec;

    use super::*;

    #[test]
    fn a_gate_looks_at_the_value_and_at_the_drop() {
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
