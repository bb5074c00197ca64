//! Rank fusion: the candidate lists of several retrievers become one list.

use std::collections::BTreeMap;

use crds::v1alpha1::CandidateFusion;

use super::top_k::Candidate;

/// The constant that reciprocal rank fusion adds to a rank (Cormack, Clarke and Büttcher, 2009).
const RRF_K: f64 = 60.0;

/// The best `count` candidates of several lists as one list. Every list has the best first.
///
/// Reciprocal rank fusion adds 1 / (60 + rank) over the lists. The weighted sum scales the scores of each list to 0 … 1
/// and adds them up. Of equal scores the lower ordinal comes first.
pub fn fuse(method: CandidateFusion, lists: &[&[Candidate]], count: usize) -> Vec<Candidate> {
    let mut scores = BTreeMap::<u64, f64>::new();
    for list in lists {
        let (Some(best), Some(worst)) = (list.first(), list.last()) else { continue };
        let (range, worst) = (f64::from(best.score) - f64::from(worst.score), f64::from(worst.score));
        for (rank, candidate) in (1u32..).zip(list.iter()) {
            *scores.entry(candidate.ordinal).or_default() += match method {
                CandidateFusion::ReciprocalRankFusion => 1.0 / (RRF_K + f64::from(rank)),
                CandidateFusion::Weighted if range > 0.0 => (f64::from(candidate.score) - worst) / range,
                // All scores of the list are equal, so every candidate gets the best.
                CandidateFusion::Weighted => 1.0,
            };
        }
    }
    let mut fused: Vec<Candidate> =
        scores.into_iter().map(|(ordinal, score)| Candidate { ordinal, score: score as f32 }).collect();
    fused.sort_by(Candidate::better_first);
    fused.truncate(count);
    fused
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(scores: &[(u64, f32)]) -> Vec<Candidate> {
        scores.iter().map(|&(ordinal, score)| Candidate { ordinal, score }).collect()
    }

    fn ordinals(list: &[Candidate]) -> Vec<u64> {
        list.iter().map(|candidate| candidate.ordinal).collect()
    }

    #[test]
    fn reciprocal_ranks_add_up() {
        let (dense, sparse) = (list(&[(1, 0.9), (2, 0.8), (3, 0.1)]), list(&[(3, 9.0), (1, 8.0)]));
        let fused = fuse(CandidateFusion::ReciprocalRankFusion, &[&dense, &sparse], 10);
        assert_eq!(ordinals(&fused), [1, 3, 2]);
        assert!((f64::from(fused[0].score) - (1.0 / 61.0 + 1.0 / 62.0)).abs() < 1e-7);
        assert_eq!(ordinals(&fuse(CandidateFusion::ReciprocalRankFusion, &[&dense, &sparse], 2)), [1, 3]);
    }

    #[test]
    fn weighted_scores_are_scaled_per_list() {
        let (dense, sparse) = (list(&[(1, 0.9), (2, 0.8), (3, 0.7)]), list(&[(2, 30.0), (4, 10.0)]));
        let fused = fuse(CandidateFusion::Weighted, &[&dense, &sparse], 10);
        assert_eq!(ordinals(&fused), [2, 1, 3, 4]);
        assert!((fused[0].score - 1.5).abs() < 1e-6);
    }

    #[test]
    fn equal_scores_are_in_the_order_of_the_chunks_and_empty_lists_fuse_to_an_empty_list() {
        let (dense, sparse) = (list(&[(7, 1.0)]), list(&[(3, 1.0)]));
        assert_eq!(ordinals(&fuse(CandidateFusion::Weighted, &[&dense, &sparse], 10)), [3, 7]);
        assert!(fuse(CandidateFusion::Weighted, &[&[], &[]], 10).is_empty());
    }
}
