//! Sparse vectors: weights of vocabulary entries.

/// The entries of a vocabulary with a weight above 0, by ascending id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseVector {
    /// The ids of the entries.
    pub indices: Vec<u32>,
    /// The weights, in the order of the ids.
    pub values: Vec<f32>,
}

impl SparseVector {
    /// Selects from `weights`, one per vocabulary entry, those above `threshold`, and of those the `top_k` largest; of
    /// equal weights the lower id is selected first.
    pub fn of_weights(weights: &[f32], threshold: f32, top_k: Option<usize>) -> Self {
        Self::of_entries((0..).zip(weights.iter().copied()), threshold, top_k)
    }

    /// Same as [`SparseVector::of_weights`], from pairs of id and weight by ascending id.
    pub fn of_entries(entries: impl Iterator<Item = (u32, f32)>, threshold: f32, top_k: Option<usize>) -> Self {
        let mut entries: Vec<(u32, f32)> = entries.filter(|(_, weight)| *weight > threshold).collect();
        if let Some(top_k) = top_k.filter(|top_k| *top_k < entries.len()) {
            entries.sort_by(|(_, left), (_, right)| right.total_cmp(left));
            entries.truncate(top_k);
            entries.sort_unstable_by_key(|(index, _)| *index);
        }
        let (indices, values) = entries.into_iter().unzip();
        Self { indices, values }
    }

    /// The dot product of two vectors.
    pub fn dot(&self, other: &Self) -> f32 {
        let weight = |index: &u32| other.indices.binary_search(index).map_or(0.0, |at| other.values[at]);
        self.indices.iter().zip(&self.values).map(|(index, value)| value * weight(index)).sum()
    }

    /// The length of the vector.
    pub fn length(&self) -> f32 {
        self.values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vector(weights: &[f32], threshold: f32, top_k: Option<usize>) -> SparseVector {
        SparseVector::of_weights(weights, threshold, top_k)
    }

    #[test]
    fn the_largest_weights_are_kept_by_ascending_id() {
        let weights = [0.0, 3.0, 1.0, 3.0, 2.0];
        assert_eq!(vector(&weights, 0.0, None).indices, [1, 2, 3, 4]);
        assert_eq!(vector(&weights, 1.0, None).indices, [1, 3, 4]);
        assert_eq!(vector(&weights, 0.0, Some(2)), SparseVector { indices: vec![1, 3], values: vec![3.0, 3.0] });
        assert_eq!(vector(&weights, 0.0, Some(1)).indices, [1]);
        assert_eq!(vector(&weights, 0.0, Some(9)).indices.len(), 4);
    }

    proptest! {
        #[test]
        fn the_dot_product_is_that_of_all_weights(
            left in prop::collection::vec(0f32..2.0, 20), right in prop::collection::vec(0f32..2.0, 20),
        ) {
            let full: f32 = left.iter().zip(&right).map(|(a, b)| a * b).sum();
            let sparse = vector(&left, 0.0, None).dot(&vector(&right, 0.0, None));
            prop_assert!((full - sparse).abs() < 1e-4);
        }
    }
}
