//! Metrics of retrieval quality: nDCG@k, recall@k and MRR of a ranking, and their means over queries, as trec_eval computes
//! them (`ndcg_cut`, `recall`, `recip_rank`).

use std::{collections::BTreeMap, fmt, str::FromStr};

/// A metric of a ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Normalised discounted cumulative gain of the first k chunks (Järvelin and Kekäläinen, 2002). The gain of a chunk is
    /// its grade, as in trec_eval; other programs take 2^grade − 1, which is the same for grades of 0 and 1.
    Ndcg(usize),
    /// The share of the relevant chunks that are among the first k chunks.
    Recall(usize),
    /// The reciprocal rank of the first relevant chunk; 0 if no relevant chunk is ranked.
    Mrr,
}

impl Metric {
    /// The value for a ranking, 0 to 1. `ranking` has the grade of every ranked chunk in their order, 0 for a chunk
    /// that is not relevant; `relevant` has the grades of all relevant chunks.
    pub fn of(self, ranking: &[f64], relevant: &[f64]) -> f64 {
        match self {
            Self::Ndcg(k) => {
                let gain = |grades: &[f64]| -> f64 {
                    let discounted = |(rank, grade): (u32, &f64)| grade / f64::from(rank + 1).log2();
                    (1u32..).zip(grades.iter().take(k)).map(discounted).sum()
                };
                let mut ideal = relevant.to_vec();
                ideal.sort_by(|left, right| right.total_cmp(left));
                let best = gain(&ideal);
                if best > 0.0 { gain(ranking) / best } else { 0.0 }
            }
            Self::Recall(k) => {
                let hits = ranking.iter().take(k).filter(|grade| **grade > 0.0).count();
                if relevant.is_empty() { 0.0 } else { hits as f64 / relevant.len() as f64 }
            }
            Self::Mrr => ranking.iter().position(|grade| *grade > 0.0).map_or(0.0, |index| 1.0 / (index + 1) as f64),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ndcg(k) => write!(f, "ndcg@{k}"),
            Self::Recall(k) => write!(f, "recall@{k}"),
            Self::Mrr => f.write_str("mrr"),
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let at = |k: &str| k.parse().ok().filter(|k| *k > 0);
        let metric = match text.split_once('@') {
            Some(("ndcg", k)) => at(k).map(Self::Ndcg),
            Some(("recall", k)) => at(k).map(Self::Recall),
            None if text == "mrr" => Some(Self::Mrr),
            _ => None,
        };
        metric.ok_or_else(|| format!("unknown metric {text:?}; use ndcg@k, recall@k or mrr"))
    }
}

/// The mean of every metric over queries.
#[derive(Clone, Debug, Default)]
pub struct MeanMetrics {
    sums: BTreeMap<String, f64>,
    queries: u64,
}

impl MeanMetrics {
    /// Adds a query; same arguments as [`Metric::of`].
    pub fn add(&mut self, metrics: &[Metric], ranking: &[f64], relevant: &[f64]) {
        self.queries += 1;
        for metric in metrics {
            *self.sums.entry(metric.to_string()).or_default() += metric.of(ranking, relevant);
        }
    }

    /// The means by metric; empty without queries.
    pub fn means(&self) -> BTreeMap<String, f64> {
        self.sums.iter().map(|(metric, sum)| (metric.clone(), sum / self.queries.max(1) as f64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn close(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 1e-9
    }

    #[test]
    fn a_perfect_ranking_is_one_and_a_ranking_without_hits_is_zero() {
        for metric in [Metric::Ndcg(10), Metric::Recall(10), Metric::Mrr] {
            assert!(close(metric.of(&[1.0, 1.0, 0.0], &[1.0, 1.0]), 1.0), "{metric}");
            assert!(close(metric.of(&[0.0, 0.0], &[1.0]), 0.0), "{metric}");
            assert!(close(metric.of(&[], &[1.0]), 0.0), "{metric}");
        }
    }

    #[test]
    fn values_are_those_of_the_definitions() {
        // One relevant chunk at rank 3: 1/log2(4).
        assert!(close(Metric::Ndcg(10).of(&[0.0, 0.0, 1.0], &[1.0]), 0.5));
        assert!(close(Metric::Ndcg(2).of(&[0.0, 0.0, 1.0], &[1.0]), 0.0));
        // Grades 3 and 1 the wrong way round: (1 + 3/log2(3)) / (3 + 1/log2(3)).
        let wrong = (1.0 + 3.0 / 3f64.log2()) / (3.0 + 1.0 / 3f64.log2());
        assert!(close(Metric::Ndcg(10).of(&[1.0, 3.0], &[3.0, 1.0]), wrong));
        assert!(close(Metric::Recall(2).of(&[0.0, 1.0, 1.0], &[1.0, 1.0]), 0.5));
        assert!(close(Metric::Mrr.of(&[0.0, 2.0], &[2.0]), 0.5));
    }

    /// `tests/quality/make.py` writes the file.
    #[test]
    fn values_are_those_of_trec_eval() {
        #[derive(Deserialize)]
        struct Case {
            ranking: Vec<String>,
            grades: BTreeMap<String, f64>,
            metrics: BTreeMap<String, f64>,
        }
        #[derive(Deserialize)]
        struct Cases {
            queries: Vec<Case>,
        }
        let cases = include_str!("../../../tests/quality/trec_eval.json");
        let Cases { queries } = serde_json::from_str(cases).expect("cases");
        assert_eq!(queries.len(), 24);
        for (number, Case { ranking, grades, metrics }) in queries.iter().enumerate() {
            let ranking: Vec<f64> = ranking.iter().map(|chunk| grades.get(chunk).copied().unwrap_or(0.0)).collect();
            let relevant: Vec<f64> = grades.values().copied().filter(|grade| *grade > 0.0).collect();
            assert_eq!(metrics.len(), 5);
            for (name, expected) in metrics {
                let value = name.parse::<Metric>().expect("a metric").of(&ranking, &relevant);
                assert!(close(value, *expected), "query {number}: {name} is {value}, trec_eval has {expected}");
            }
        }
    }

    #[test]
    fn a_metric_is_parsed_from_the_name_that_it_is_displayed_as() {
        for name in ["ndcg@10", "recall@100", "mrr"] {
            assert_eq!(name.parse::<Metric>().map(|metric| metric.to_string()), Ok(name.to_owned()));
        }
        for name in ["ndcg", "recall@0", "precision@3", "mrr@10"] {
            assert!(name.parse::<Metric>().is_err(), "{name}");
        }
    }

    #[test]
    fn means_are_over_all_queries() {
        let mut means = MeanMetrics::default();
        assert!(means.means().is_empty());
        means.add(&[Metric::Mrr], &[1.0], &[1.0]);
        means.add(&[Metric::Mrr], &[0.0, 1.0], &[1.0]);
        assert!(close(means.means()["mrr"], 0.75));
    }
}
