//! Compares two vectors by the similarity that their model was made for. Larger is nearer; a distance is negative.
//!
//! Same as `sentence_transformers.util`: `cos_sim`, `dot_score`, `euclidean_sim`, `manhattan_sim`.

use crds::v1alpha1::Similarity;

use crate::vectors::Rows;

/// The similarity of two vectors of one width. A vector without a length has the cosine 0 with any other.
pub fn score(similarity: Similarity, left: &[f32], right: &[f32]) -> f32 {
    let pairs = || left.iter().zip(right).map(|(left, right)| (f64::from(*left), f64::from(*right)));
    let score = match similarity {
        Similarity::Cosine => {
            let length = length(left) * length(right);
            if length > 0.0 { pairs().map(|(left, right)| left * right).sum::<f64>() / length } else { 0.0 }
        }
        Similarity::Dot => pairs().map(|(left, right)| left * right).sum(),
        Similarity::Euclidean => -pairs().map(|(left, right)| (left - right).powi(2)).sum::<f64>().sqrt(),
        Similarity::Manhattan => -pairs().map(|(left, right)| (left - right).abs()).sum::<f64>(),
    };
    score as f32
}

/// Rows scaled to length 1; a zero row stays as it is.
pub fn unit(rows: Rows) -> Rows {
    let width = rows.dimensions();
    let mut values = rows.into_values();
    for row in values.chunks_exact_mut(width) {
        let length = length(row);
        if length > 0.0 {
            for value in row {
                *value = (f64::from(*value) / length) as f32;
            }
        }
    }
    Rows::new(width, values)
}

/// The length of a vector. In f64, because the squares of large values exceed an f32.
fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Similarity; 4] = [Similarity::Cosine, Similarity::Dot, Similarity::Euclidean, Similarity::Manhattan];

    #[test]
    fn the_scores_are_those_of_the_definitions() {
        let scores = |left: &[f32], right: &[f32]| ALL.map(|similarity| score(similarity, left, right)).to_vec();
        assert_eq!(scores(&[3.0, 0.0], &[0.0, 4.0]), [0.0, 0.0, -5.0, -7.0]);
        assert_eq!(scores(&[2.0, 0.0], &[3.0, 0.0]), [1.0, 6.0, -1.0, -1.0]);
        assert_eq!(scores(&[1.0, 2.0], &[-1.0, -2.0]), [-1.0, -5.0, -20f32.sqrt(), -6.0]);
        assert_eq!(scores(&[0.0, 0.0], &[1.0, 1.0])[..2], [0.0, 0.0]);
    }

    #[test]
    fn large_values_do_not_overflow() {
        let large = [3e30f32, 4e30];
        assert!((score(Similarity::Cosine, &large, &large) - 1.0).abs() < 1e-6);
        let scaled = unit(Rows::new(2, large.to_vec()));
        assert!((scaled.values()[0] - 0.6).abs() < 1e-6 && (scaled.values()[1] - 0.8).abs() < 1e-6, "{scaled:?}");
        assert_eq!(unit(Rows::new(2, vec![0.0, 0.0])).values(), [0.0, 0.0]);
    }
}
