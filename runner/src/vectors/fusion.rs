//! Vector fusion: the vectors of several models become one further vector.

use crds::{
    contract::FailureReason,
    v1alpha1::{FusionMethod, Similarity},
};

use crate::{
    process::error::{Result, StageError},
    vectors::Rows,
};

/// The name of the column of the fused vector.
pub const COLUMN: &str = "fused";
/// How fused vectors are compared, whatever their models were made for: they are made of vectors of length 1.
pub const SIMILARITY: Similarity = Similarity::Cosine;
/// The largest number of dimensions that vector databases accept.
const MAX_DIMENSIONS: usize = 65_536;

/// A fusion of the vectors of several models.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorFusion {
    method: FusionMethod,
    /// The share of each model; they add up to 1.
    shares: Vec<f64>,
    /// The number of dimensions of each model's vectors.
    widths: Vec<usize>,
}

impl VectorFusion {
    /// The fusion of models with a weight and a number of dimensions each; `None` if there is nothing to fuse. Without
    /// a method, several models are concatenated, and a single model is not fused, because its vector would be stored
    /// twice.
    pub fn of(method: Option<FusionMethod>, models: &[(f64, usize)]) -> Option<Self> {
        let default = if models.len() > 1 { FusionMethod::WeightedConcat } else { FusionMethod::None };
        let method = method.unwrap_or(default);
        if method == FusionMethod::None || models.is_empty() {
            return None;
        }
        let sum: f64 = models.iter().map(|(weight, _)| weight).sum();
        Some(Self {
            method,
            shares: models.iter().map(|(weight, _)| weight / sum).collect(),
            widths: models.iter().map(|(_, width)| *width).collect(),
        })
    }

    /// Rejects a fused vector that vector databases do not accept.
    ///
    /// # Errors
    /// If the vector has more than 65,536 dimensions; the error says what to change.
    pub fn check_width(&self) -> Result<()> {
        let dimensions = self.dimensions();
        if dimensions <= MAX_DIMENSIONS {
            return Ok(());
        }
        let message = format!(
            "spec.fusion: the fused vector would have {dimensions} dimensions, but vector databases accept at most \
             {MAX_DIMENSIONS}; reduce the dimensions of the models, or set the method to WeightedMean or None"
        );
        Err(StageError::new(FailureReason::InvalidConfiguration, message))
    }

    /// The method.
    pub fn method(&self) -> FusionMethod {
        self.method
    }

    /// The share of each model; they add up to 1.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// The number of dimensions of the fused vector.
    pub fn dimensions(&self) -> usize {
        match self.method {
            FusionMethod::WeightedConcat => self.widths.iter().sum(),
            FusionMethod::WeightedMean | FusionMethod::None => self.widths.iter().copied().min().unwrap_or(0),
        }
    }

    /// The fused vectors of texts; each of `models` has one row per text.
    ///
    /// `WeightedConcat`: each normalised vector scaled by √share, so that a dot product of two fused vectors is the
    /// weighted mean of the models' cosines. `WeightedMean`: each normalised, truncated to the smallest width,
    /// normalised again, summed up by share and normalised.
    pub fn fuse(&self, models: &[Rows]) -> Rows {
        let dimensions = self.dimensions();
        let count = models.first().map_or(0, Rows::len);
        let mut values = Vec::with_capacity(count * dimensions);
        for row in 0..count {
            let vectors = models.iter().zip(&self.shares).map(|(rows, share)| (rows.row(row), *share));
            if self.method == FusionMethod::WeightedConcat {
                vectors.for_each(|(vector, share)| values.extend(scaled(vector, share.sqrt())));
            } else {
                let mut sum = vec![0.0; dimensions];
                for (vector, share) in vectors {
                    sum.iter_mut().zip(scaled(&vector[..dimensions], share)).for_each(|(sum, value)| *sum += value);
                }
                values.extend(scaled(&sum, 1.0));
            }
        }
        Rows::new(dimensions, values)
    }
}

/// A vector scaled to a length; a zero vector stays as it is.
fn scaled(vector: &[f32], length: f64) -> impl Iterator<Item = f32> {
    let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let factor = if norm > 0.0 { length / norm } else { 0.0 };
    vector.iter().map(move |value| (f64::from(*value) * factor) as f32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cosine(left: &[f32], right: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
    }

    #[test]
    fn a_single_model_is_fused_only_if_a_method_is_set() {
        assert_eq!(VectorFusion::of(None, &[(1.0, 4)]), None);
        assert_eq!(VectorFusion::of(Some(FusionMethod::None), &[(1.0, 4), (1.0, 4)]), None);
        let fusion =
            |method, models: &[(f64, usize)]| VectorFusion::of(method, models).map(|fusion| fusion.dimensions());
        assert_eq!(fusion(Some(FusionMethod::WeightedConcat), &[(1.0, 4)]), Some(4));
        assert_eq!(fusion(None, &[(1.0, 4), (2.0, 3)]), Some(7));
        assert_eq!(fusion(Some(FusionMethod::WeightedMean), &[(1.0, 4), (2.0, 3)]), Some(3));
    }

    #[test]
    fn a_vector_that_is_too_wide_for_databases_is_rejected() {
        let fusion = |method, widths: [usize; 2]| VectorFusion::of(Some(method), &widths.map(|width| (1.0, width)));
        let checked = |method, widths| fusion(method, widths).expect("fused").check_width();
        assert!(checked(FusionMethod::WeightedConcat, [65_000, 536]).is_ok());
        assert!(checked(FusionMethod::WeightedMean, [65_000, 65_000]).is_ok());
        let sentence = checked(FusionMethod::WeightedConcat, [65_000, 537]).expect_err("too wide").sentence();
        assert!(sentence.contains("65537 dimensions") && sentence.contains("at most 65536"), "{sentence}");
    }

    #[test]
    fn a_zero_vector_adds_nothing() {
        let fusion = VectorFusion::of(None, &[(1.0, 2), (1.0, 2)]).expect("fused");
        let fused = fusion.fuse(&[Rows::new(2, vec![0.0, 0.0]), Rows::new(2, vec![0.0, 3.0])]);
        assert_eq!(fused.values()[..3], [0.0, 0.0, 0.0]);
        assert!((fused.values()[3] - 0.5f32.sqrt()).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn a_dot_product_of_concatenated_vectors_is_the_weighted_mean_of_the_cosines(
            a in prop::collection::vec(0.1f32..2.0, 10), b in prop::collection::vec(0.1f32..2.0, 14), weight in 0.1f64..5.0,
        ) {
            let fusion = VectorFusion::of(None, &[(weight, 5), (1.0, 7)]).expect("fused");
            let fused = fusion.fuse(&[Rows::new(5, a.clone()), Rows::new(7, b.clone())]);
            let dot: f64 = fused.row(0).iter().zip(fused.row(1)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let mean = (weight * cosine(&a[..5], &a[5..]) + cosine(&b[..7], &b[7..])) / (weight + 1.0);
            prop_assert!((dot - mean).abs() < 1e-6, "{dot} and {mean}");
            prop_assert!((cosine(fused.row(0), fused.row(1)) - mean).abs() < 1e-6);
        }

        #[test]
        fn a_mean_has_length_one(a in prop::collection::vec(0.1f32..2.0, 6), b in prop::collection::vec(0.1f32..2.0, 4)) {
            let fusion = VectorFusion::of(Some(FusionMethod::WeightedMean), &[(3.0, 6), (1.0, 4)]).expect("fused");
            let fused = fusion.fuse(&[Rows::new(6, a), Rows::new(4, b)]);
            let length: f64 = fused.values().iter().map(|value| f64::from(*value).powi(2)).sum();
            prop_assert!((length - 1.0).abs() < 1e-6 && fused.dimensions() == 4);
        }
    }
}
