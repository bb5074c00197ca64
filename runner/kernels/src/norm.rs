//! Layer normalisation and root-mean-square normalisation of rows.

use pulp::{Simd, WithSimd};

use crate::simd::{arch, load, store, sum};

/// The parameters of a normalisation over `weight.len()` columns.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// Multiplied with the normalised values.
    pub weight: &'a [f32],
    /// Added last.
    pub bias: Option<&'a [f32]>,
    /// Added to the variance.
    pub epsilon: f32,
    /// Whether the mean is subtracted: `true` for layer normalisation, `false` for RMS normalisation.
    pub centre: bool,
}

/// Normalises each row of `rows` in place.
///
/// # Panics
/// If the length of `rows` is not a multiple of the parameters' width.
pub fn normalise(rows: &mut [f32], parameters: Parameters<'_>) {
    assert_eq!(rows.len() % parameters.weight.len(), 0, "whole rows");
    arch().dispatch(Normalise { rows, parameters });
}

struct Normalise<'a> {
    rows: &'a mut [f32],
    parameters: Parameters<'a>,
}

impl WithSimd for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Parameters { weight, bias, epsilon, centre } = self.parameters;
        let width = weight.len();
        for row in self.rows.chunks_exact_mut(width) {
            let mean = if centre {
                sum(
                    simd,
                    row,
                    #[inline(always)]
                    |x| x,
                ) / width as f32
            } else {
                0.0
            };
            let minus_mean = simd.splat_f32s(-mean);
            // Two passes: the variance of differences from the mean does not cancel.
            let squares = sum(
                simd,
                row,
                #[inline(always)]
                |x| {
                    let difference = simd.add_f32s(x, minus_mean);
                    simd.mul_f32s(difference, difference)
                },
            );
            let scale = simd.splat_f32s(1.0 / (squares / width as f32 + epsilon).sqrt());
            for from in (0..width).step_by(S::F32_LANES) {
                let to = width.min(from + S::F32_LANES);
                let difference = simd.add_f32s(load(simd, &row[from..to]), minus_mean);
                let mut value = simd.mul_f32s(simd.mul_f32s(difference, scale), load(simd, &weight[from..to]));
                if let Some(bias) = bias {
                    value = simd.add_f32s(value, load(simd, &bias[from..to]));
                }
                store(simd, &mut row[from..to], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(row: &[f32], parameters: Parameters<'_>) -> Vec<f64> {
        let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
        let count = row.len() as f64;
        let mean = if parameters.centre { row.iter().sum::<f64>() / count } else { 0.0 };
        let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let bias = |at: usize| parameters.bias.map_or(0.0, |bias| f64::from(bias[at]));
        let scaled = |x: &f64| (x - mean) / (variance + f64::from(parameters.epsilon)).sqrt();
        row.iter().enumerate().map(|(at, x)| scaled(x) * f64::from(parameters.weight[at]) + bias(at)).collect()
    }

    #[test]
    fn rows_of_any_width_are_normalised() {
        for width in [1, 3, 8, 16, 17, 100, 384] {
            let value = |at: usize| ((at * 37 + 11) % 23) as f32 / 7.0 + 100.0;
            let weight: Vec<f32> = (0..width).map(|at| 0.5 + at as f32 / width as f32).collect();
            let bias: Vec<f32> = (0..width).map(|at| at as f32 / 50.0 - 1.0).collect();
            for (bias, centre) in [(Some(&bias[..]), true), (None, false)] {
                let parameters = Parameters { weight: &weight, bias, epsilon: 1e-5, centre };
                let rows: Vec<f32> = (0..3 * width).map(value).collect();
                let mut normalised = rows.clone();
                normalise(&mut normalised, parameters);
                for (row, found) in rows.chunks(width).zip(normalised.chunks(width)) {
                    for (x, y) in exact(row, parameters).iter().zip(found) {
                        assert!((x - f64::from(*y)).abs() < 2e-4, "width {width}: {y}, not {x}");
                    }
                }
            }
        }
    }
}
