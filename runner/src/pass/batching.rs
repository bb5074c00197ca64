//! Cuts a window of rows into token-budget batches, and restores the order of the computed rows: row N out is row N in.

use crate::vectors::Rows;

/// The number of tokens that one batch may hold. The defaults are in
/// [`PassOptions::for_devices`](super::PassOptions::for_devices).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenBudget(pub usize);

/// Splits a window of rows with the given `lengths` in tokens into batches of row indices.
///
/// A batch holds at most `budget` tokens; a single row that is longer is a batch of its own. The longest rows come
/// first, so that a budget which the device cannot hold shows at the start, and so that the last batches are short and
/// the workers end together. Every row is in exactly one batch.
pub fn batches(lengths: &[usize], budget: TokenBudget) -> Vec<Vec<usize>> {
    split(lengths, |_| budget.0)
}

/// Same as [`batches`], for the last window of a pass: batches become smaller so that the `workers` end together. A
/// batch holds at most half of a worker's share of the remaining tokens, but at least a quarter of the budget is
/// allowed (guided self-scheduling, Polychronopoulos and Kuck, 1987).
pub fn last_batches(lengths: &[usize], budget: TokenBudget, workers: usize) -> Vec<Vec<usize>> {
    if workers < 2 {
        return batches(lengths, budget);
    }
    split(lengths, |remaining| (remaining / (2 * workers)).max(budget.0 / 4).min(budget.0))
}

/// Batches whose budget in tokens is computed by `budget_of_remaining` from the tokens that are not in a batch yet.
fn split(lengths: &[usize], budget_of_remaining: impl Fn(usize) -> usize) -> Vec<Vec<usize>> {
    let mut by_length: Vec<usize> = (0..lengths.len()).collect();
    by_length.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut remaining: usize = lengths.iter().sum();
    let (mut tokens, mut budget) = (0, 0);
    for row in by_length {
        tokens += lengths[row];
        match batches.last_mut() {
            Some(batch) if tokens <= budget => batch.push(row),
            _ => {
                (tokens, budget) = (lengths[row], budget_of_remaining(remaining));
                batches.push(vec![row]);
            }
        }
        remaining -= lengths[row];
    }
    batches
}

/// The rows of a window, which are computed batch by batch in another order.
pub trait WindowRows: Send {
    /// The number of rows.
    fn count(&self) -> usize;

    /// Copies the `computed` rows to the places of a `batch` of row indices.
    ///
    /// # Panics
    /// If there is not one row of the right width per index.
    fn put(&mut self, batch: &[usize], computed: Self);
}

impl WindowRows for Rows {
    fn count(&self) -> usize {
        self.len()
    }

    fn put(&mut self, batch: &[usize], computed: Self) {
        let (rows, dimensions) = (computed.len(), computed.dimensions());
        assert_eq!((batch.len(), self.dimensions()), (rows, dimensions), "one row per row of the batch");
        for (&row, vector) in batch.iter().zip(computed.iter()) {
            self.row_mut(row).copy_from_slice(vector);
        }
    }
}

impl<T: Send> WindowRows for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn put(&mut self, batch: &[usize], computed: Self) {
        assert_eq!(batch.len(), computed.len(), "one row per row of the batch");
        for (&row, value) in batch.iter().zip(computed) {
            self[row] = value;
        }
    }
}

/// Rows of a window that come back batch by batch, each to its place: row N out is row N in.
#[derive(Debug)]
pub struct RestoredRows<R> {
    rows: R,
    missing: usize,
}

impl<R: WindowRows> RestoredRows<R> {
    /// Starts with `rows` as placeholders, none of which is computed.
    pub fn new(rows: R) -> Self {
        Self { missing: rows.count(), rows }
    }

    /// Takes the `computed` rows of a `batch` of row indices.
    ///
    /// # Panics
    /// If there is not one row of the right width per index.
    pub fn put(&mut self, batch: &[usize], computed: R) {
        self.rows.put(batch, computed);
        self.missing -= batch.len();
    }

    /// Whether every row is computed.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The rows in their order.
    pub fn into_rows(self) -> R {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window() -> impl Strategy<Value = (Vec<usize>, TokenBudget)> {
        (prop::collection::vec(0usize..300, 0..200), (0usize..2000).prop_map(TokenBudget))
    }

    proptest! {
        #[test]
        fn every_row_is_in_exactly_one_batch((lengths, budget) in window()) {
            let mut rows = batches(&lengths, budget).concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
        }

        #[test]
        fn no_batch_of_several_rows_is_over_the_budget((lengths, budget) in window()) {
            for batch in batches(&lengths, budget) {
                let tokens: usize = batch.iter().map(|&row| lengths[row]).sum();
                prop_assert!(batch.len() == 1 || tokens <= budget.0);
            }
        }

        #[test]
        fn no_batch_could_take_the_first_row_of_the_next((lengths, budget) in window()) {
            for pair in batches(&lengths, budget).windows(2) {
                let tokens: usize = pair[0].iter().map(|&row| lengths[row]).sum();
                prop_assert!(tokens + lengths[pair[1][0]] > budget.0);
            }
        }

        #[test]
        fn the_last_batches_hold_every_row_and_end_together((lengths, budget) in window(), workers in 1usize..5) {
            let batches = last_batches(&lengths, budget, workers);
            let mut rows = batches.concat();
            rows.sort_unstable();
            prop_assert_eq!(rows, (0..lengths.len()).collect::<Vec<_>>());
            let tokens = |batch: &Vec<usize>| batch.iter().map(|&row| lengths[row]).sum::<usize>();
            prop_assert!(batches.iter().all(|batch| batch.len() == 1 || tokens(batch) <= budget.0));
            // Each worker takes the next batch: at the end no worker waits longer than one small batch takes.
            let mut busy = vec![0; workers];
            for batch in &batches {
                *busy.iter_mut().min().expect("a worker") += tokens(batch);
            }
            let longest = lengths.iter().max().copied().unwrap_or(0);
            let share = lengths.iter().sum::<usize>() / (2 * workers);
            let wait = busy.iter().max().expect("a worker") - busy.iter().min().expect("a worker");
            if workers > 1 {
                prop_assert!(wait <= longest.max(budget.0 / 4).max(share.min(budget.0)), "{} {:?}", wait, busy);
            }
        }

        #[test]
        fn longer_rows_come_first((lengths, budget) in window()) {
            let order: Vec<usize> = batches(&lengths, budget).concat().into_iter().map(|row| lengths[row]).collect();
            prop_assert!(order.is_sorted_by(|a, b| a >= b));
        }

        #[test]
        fn rows_are_restored_to_their_places((lengths, budget) in window(), dimensions in 1usize..4) {
            let vector = |row: usize| (0..dimensions).map(move |column| (row * 10 + column) as f32);
            let mut restored = RestoredRows::new(Rows::new(dimensions, vec![0.0; lengths.len() * dimensions]));
            for batch in batches(&lengths, budget).iter().rev() {
                prop_assert!(!restored.is_complete());
                restored.put(batch, Rows::new(dimensions, batch.iter().flat_map(|&row| vector(row)).collect()));
            }
            prop_assert!(restored.is_complete());
            let expected = Rows::new(dimensions, (0..lengths.len()).flat_map(vector).collect());
            prop_assert_eq!(restored.into_rows(), expected);
        }
    }

    #[test]
    fn a_row_longer_than_the_budget_is_a_batch_of_its_own() {
        assert_eq!(batches(&[4, 50, 4], TokenBudget(10)), [vec![1], vec![0, 2]]);
    }

    #[test]
    fn an_empty_window_has_no_batches() {
        assert!(batches(&[], TokenBudget(10)).is_empty());
        assert!(RestoredRows::new(Rows::new(3, Vec::new())).is_complete());
    }

    #[test]
    fn the_last_batches_become_smaller() {
        let sizes =
            |workers| last_batches(&[10; 19], TokenBudget(40), workers).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(1), [4, 4, 4, 4, 3]);
        assert_eq!(sizes(2), [4, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn rows_of_equal_length_keep_their_order() {
        assert_eq!(batches(&[2, 2, 2, 2], TokenBudget(6)), [vec![0, 1, 2], vec![3]]);
    }
}
