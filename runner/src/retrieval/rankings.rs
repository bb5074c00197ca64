//! The rankings of a collection: the best chunks of every query, in a file and as examples in the summary.

use std::collections::BTreeMap;

use crds::{
    identity::Revision,
    layout,
    summary::{Example, ExampleHit},
};
use serde::Serialize;

use super::{chunk_lookup::ChunkLookup, lists::QueryLists, queries::Query, top_k::Candidate};
use crate::{process::error::Result, store::Store};

/// Queries that the summary shows.
const EXAMPLE_QUERIES: usize = 5;
/// Chunks that the summary shows of each query.
const EXAMPLE_CHUNKS: usize = 3;
/// Characters of a text that the summary shows.
const EXCERPT_CHARS: usize = 160;

/// A line of the file of rankings: a query and its best chunks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ranking {
    /// The query's id.
    pub query: String,
    /// Its text.
    pub text: String,
    /// The best chunks, the best first.
    pub results: Vec<RankedChunk>,
}

/// A chunk of a ranking.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RankedChunk {
    /// Its id.
    pub id: String,
    /// Its score after the rerank; without a rerank its score as a candidate.
    pub score: f32,
    /// Its rank before the rerank, from 1; absent without a rerank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank_before: Option<u32>,
    /// Its score before the rerank; absent without a rerank.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score_before: Option<f32>,
}

/// The `top_k` best chunks of every query.
pub fn rank(top_k: usize, queries: &[Query], lists: &QueryLists, lookup: &ChunkLookup) -> Vec<Ranking> {
    let ranking = |(index, query): (usize, &Query)| {
        let before: BTreeMap<u64, (u32, f32)> = (1u32..)
            .zip(&lists.candidates[index])
            .map(|(rank, candidate)| (candidate.ordinal, (rank, candidate.score)))
            .collect();
        let ranked = |candidate: &Candidate| {
            let before = lists.reranked.as_ref().and_then(|_| before.get(&candidate.ordinal));
            Some(RankedChunk {
                id: lookup.chunks.get(&candidate.ordinal)?.id.clone(),
                score: candidate.score,
                rank_before: before.map(|(rank, _)| *rank),
                score_before: before.map(|(_, score)| *score),
            })
        };
        let results = lists.last()[index].iter().take(top_k).filter_map(ranked).collect();
        Ranking { query: query.id.clone(), text: query.text.clone(), results }
    };
    queries.iter().enumerate().map(ranking).collect()
}

/// The first rankings with excerpts of their best chunks, for the summary.
pub fn examples(rankings: &[Ranking], lists: &QueryLists, lookup: &ChunkLookup) -> Vec<Example> {
    let example = |(ranking, list): (&Ranking, &Vec<Candidate>)| Example {
        query: ranking.text.clone(),
        found: ranking
            .results
            .iter()
            .zip(list)
            .take(EXAMPLE_CHUNKS)
            .map(|(ranked, candidate)| ExampleHit {
                id: ranked.id.clone(),
                text: lookup
                    .chunks
                    .get(&candidate.ordinal)
                    .map(|chunk| chunk.text.chars().take(EXCERPT_CHARS).collect())
                    .unwrap_or_default(),
                score: f64::from(ranked.score),
                rank_before: ranked.rank_before,
            })
            .collect(),
    };
    rankings.iter().zip(lists.last()).take(EXAMPLE_QUERIES).map(example).collect()
}

/// Writes the rankings of a collection. Returns the path of the file.
///
/// # Errors
/// If the store fails.
pub fn write(store: &Store, revision: &Revision, collection: &str, rankings: &[Ranking]) -> Result<String> {
    let path = layout::rankings(revision, collection);
    let mut bytes = Vec::new();
    for ranking in rankings {
        serde_json::to_writer(&mut bytes, ranking).expect("a ranking has string keys and finite numbers");
        bytes.push(b'\n');
    }
    store.put(&path, bytes)?;
    Ok(path)
}
