//! The k best candidates of every query, collected one by one.

use std::cmp::Ordering;

/// A chunk that a retriever found for a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The number of the chunk in its collection.
    pub ordinal: u64,
    /// Its score; the scale depends on the retriever.
    pub score: f32,
}

impl Candidate {
    /// The order of a list: by descending score, then by ascending ordinal.
    pub fn better_first(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.ordinal.cmp(&other.ordinal))
    }
}

/// The best `k` candidates of every query so far.
#[derive(Clone, Debug)]
pub struct TopK {
    k: usize,
    /// Per query at most 2 k candidates, in no order.
    lists: Vec<Vec<Candidate>>,
    /// Per query the score below which a candidate is dropped.
    thresholds: Vec<f32>,
}

impl TopK {
    /// Empty lists for a number of queries.
    pub fn new(queries: usize, k: usize) -> Self {
        Self { k, lists: vec![Vec::new(); queries], thresholds: vec![f32::NEG_INFINITY; queries] }
    }

    /// Adds a candidate to the list of a query, if it is among the best.
    ///
    /// # Panics
    /// If the index of the query is out of range.
    #[inline]
    pub fn offer(&mut self, query: usize, candidate: Candidate) {
        // Candidates with the score of the threshold stay, because a lower ordinal may come later.
        if candidate.score >= self.thresholds[query] {
            let list = &mut self.lists[query];
            list.push(candidate);
            if list.len() >= 2 * self.k {
                truncate_to_best(list, self.k);
                self.thresholds[query] = list.last().map_or(f32::NEG_INFINITY, |worst| worst.score);
            }
        }
    }

    /// One list per query with at most `k` candidates, the best first.
    pub fn into_lists(mut self) -> Vec<Vec<Candidate>> {
        self.lists.iter_mut().for_each(|list| truncate_to_best(list, self.k));
        self.lists
    }
}

fn truncate_to_best(list: &mut Vec<Candidate>, k: usize) {
    list.sort_unstable_by(Candidate::better_first);
    list.truncate(k);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordinals(list: &[Candidate]) -> Vec<u64> {
        list.iter().map(|candidate| candidate.ordinal).collect()
    }

    #[test]
    fn the_best_candidates_are_kept_in_any_order_of_arrival() {
        let scores = [0.1, 0.9, 0.5, 0.9, 0.2, 0.7, 0.9];
        for shift in 0..scores.len() {
            let mut top_k = TopK::new(1, 3);
            for index in (0..scores.len()).map(|index| (index + shift) % scores.len()) {
                top_k.offer(0, Candidate { ordinal: index as u64, score: scores[index] });
            }
            assert_eq!(ordinals(&top_k.into_lists()[0]), [1, 3, 6]);
        }
        let mut few = TopK::new(1, 10);
        few.offer(0, Candidate { ordinal: 4, score: 0.0 });
        assert_eq!(few.into_lists()[0].len(), 1);
    }
}
