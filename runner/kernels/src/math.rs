//! Elementary functions of f32 vectors, and the activations made of them.
//!
//! Each is a polynomial or rational approximation. Tests bound its error against the exact function:
//! 2 units in the last place for [`exp`], 2.5⋅10⁻⁷⋅max(1, |x|) for the activations.

use pulp::{Simd, WithSimd};

use crate::{
    activation::Activation,
    simd::{arch, keep_nan, map},
};

/// eˣ: x = n⋅ln 2 + r, eʳ by a polynomial, 2ⁿ by adding n to the exponent. Below -87 the result is eˉ⁸⁷, above 88 e⁸⁸.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Adding 1.5⋅2²³ rounds to an integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const POLYNOMIAL: [f32; 5] = [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];

    let given = x;
    let x = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(88.0)), simd.splat_f32s(-87.0));
    let shifted = simd.mul_add_f32s(x, simd.splat_f32s(std::f32::consts::LOG2_E), simd.splat_f32s(ROUND));
    let n = simd.sub_f32s(shifted, simd.splat_f32s(ROUND));
    let r = simd.negate_mul_add_f32s(n, simd.splat_f32s(LN_2_HIGH), x);
    let r = simd.negate_mul_add_f32s(n, simd.splat_f32s(LN_2_LOW), r);
    let mut p = simd.splat_f32s(1.987_569_1e-4);
    for coefficient in POLYNOMIAL {
        p = simd.mul_add_f32s(p, r, simd.splat_f32s(coefficient));
    }
    let squared = simd.mul_f32s(r, r);
    let fraction = simd.add_f32s(simd.mul_add_f32s(p, squared, r), simd.splat_f32s(1.0));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(fraction), exponent));
    keep_nan(simd, given, power)
}

/// The error function, x⋅P(x²)/Q(x²), which is ±1 to the last bit beyond ±4.
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const P: [f32; 6] = [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];
    const Q: [f32; 4] = [-2.133_740_6e-4, -1.682_827_1e-3, -7.373_329e-3, -1.426_474_1e-2];

    let x = simd.max_f32s(simd.min_f32s(x, simd.splat_f32s(4.0)), simd.splat_f32s(-4.0));
    let squared = simd.mul_f32s(x, x);
    let mut p = simd.splat_f32s(-2.726_142_3e-10);
    for coefficient in P {
        p = simd.mul_add_f32s(p, squared, simd.splat_f32s(coefficient));
    }
    let mut q = simd.splat_f32s(-1.456_607_2e-5);
    for coefficient in Q {
        q = simd.mul_add_f32s(q, squared, simd.splat_f32s(coefficient));
    }
    simd.div_f32s(simd.mul_f32s(x, p), q)
}

/// The logistic function, 1 / (1 + eˉˣ).
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(x))))
}

/// The hyperbolic tangent, 2σ(2x) - 1.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let twice = simd.splat_f32s(2.0);
    simd.mul_add_f32s(sigmoid(simd, simd.mul_f32s(x, twice)), twice, simd.splat_f32s(-1.0))
}

/// The activation of a vector.
#[inline(always)]
pub fn activate<S: Simd>(simd: S, activation: Activation, x: S::f32s) -> S::f32s {
    match activation {
        Activation::Gelu => {
            let erf = erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2)));
            let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
            simd.mul_add_f32s(half, erf, half)
        }
        Activation::GeluTanh => {
            let cubic = simd.mul_f32s(simd.mul_f32s(x, x), x);
            let inner = simd.mul_add_f32s(cubic, simd.splat_f32s(0.044_715), x);
            let tanh = tanh(simd, simd.mul_f32s(inner, simd.splat_f32s(0.797_884_6)));
            let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
            simd.mul_add_f32s(half, tanh, half)
        }
        Activation::Silu => simd.mul_f32s(x, sigmoid(simd, x)),
        Activation::Relu => keep_nan(simd, x, simd.max_f32s(x, simd.splat_f32s(0.0))),
        Activation::Tanh => tanh(simd, x),
        Activation::Sigmoid => sigmoid(simd, x),
        Activation::Identity => x,
    }
}

/// Applies `activation` to every value.
pub fn apply(activation: Activation, values: &mut [f32]) {
    let columns = values.len();
    arch().dispatch(ActivateRows { activation, values, stride: columns.max(1), rows: 1, columns });
}

/// Applies the activation to the first `columns` values of each of the `rows`, which are `stride` values apart.
pub(crate) struct ActivateRows<'a> {
    pub(crate) activation: Activation,
    pub(crate) values: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl WithSimd for ActivateRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        macro_rules! apply {
            ($activation:expr) => {
                for row in self.values.chunks_mut(self.stride).take(self.rows) {
                    map(
                        simd,
                        &mut row[..self.columns],
                        #[inline(always)]
                        |x| activate(simd, $activation, x),
                    );
                }
            };
        }
        // One loop per activation, so that the choice is made once.
        match self.activation {
            Activation::Identity => {}
            Activation::Gelu => apply!(Activation::Gelu),
            Activation::GeluTanh => apply!(Activation::GeluTanh),
            Activation::Silu => apply!(Activation::Silu),
            Activation::Relu => apply!(Activation::Relu),
            Activation::Tanh => apply!(Activation::Tanh),
            Activation::Sigmoid => apply!(Activation::Sigmoid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Map<'a>(&'a [f32], Activation);
    impl WithSimd for Map<'_> {
        type Output = Vec<f32>;
        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let mut values = self.0.to_vec();
            map(
                simd,
                &mut values,
                #[inline(always)]
                |x| activate(simd, self.1, x),
            );
            values
        }
    }

    #[test]
    fn nan_stays_nan() {
        let values = [0.5, f32::NAN, -3.0, f32::NAN, 7.0, 0.0, 1.0, 2.0, f32::NAN];
        let is_nan = |values: &[f32]| values.iter().map(|value| value.is_nan()).collect::<Vec<_>>();
        for activation in [
            Activation::Identity,
            Activation::Gelu,
            Activation::GeluTanh,
            Activation::Silu,
            Activation::Relu,
            Activation::Tanh,
            Activation::Sigmoid,
        ] {
            assert_eq!(is_nan(&arch().dispatch(Map(&values, activation))), is_nan(&values), "{activation:?}");
        }
        assert_eq!(is_nan(&arch().dispatch(Exp(&values))), is_nan(&values));
    }

    struct Exp<'a>(&'a [f32]);
    impl WithSimd for Exp<'_> {
        type Output = Vec<f32>;
        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let mut values = self.0.to_vec();
            map(
                simd,
                &mut values,
                #[inline(always)]
                |x| exp(simd, x),
            );
            values
        }
    }

    fn range(from: f32, to: f32) -> Vec<f32> {
        (0..=100_003).map(|step| from + (to - from) * step as f32 / 100_003.0).collect()
    }

    #[test]
    fn exp_is_right_to_two_units_in_the_last_place() {
        let values = range(-87.0, 88.0);
        let computed = arch().dispatch(Exp(&values));
        for (x, y) in values.iter().zip(computed) {
            let exact = f64::from(*x).exp();
            assert!(
                (f64::from(y) - exact).abs() <= 2.5 * f64::from(f32::EPSILON) * exact,
                "exp({x}) = {y}, not {exact}"
            );
        }
    }

    #[test]
    fn an_exp_that_underflows_is_close_to_zero() {
        let computed = arch().dispatch(Exp(&[-1e9, f32::NEG_INFINITY, 0.0]));
        assert!(computed[0] < 1e-37 && computed[1] < 1e-37, "{computed:?}");
        assert_eq!(computed[2].to_bits(), 1f32.to_bits());
    }

    type Exact = fn(f64) -> f64;

    #[test]
    fn activations_are_close_to_the_exact_functions() {
        let values = range(-12.0, 12.0);
        let cases: [(Activation, Exact); 5] = [
            (Activation::Gelu, |x| 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)),
            (Activation::GeluTanh, |x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
            }),
            (Activation::Silu, |x| x / (1.0 + (-x).exp())),
            (Activation::Tanh, f64::tanh),
            (Activation::Relu, |x| x.max(0.0)),
        ];
        for (activation, exact) in cases {
            let computed = arch().dispatch(Map(&values, activation));
            for (x, y) in values.iter().zip(computed) {
                let error = (exact(f64::from(*x)) - f64::from(y)).abs();
                let bound = 2.5e-7 * f64::from(x.abs().max(1.0));
                assert!(error <= bound, "{activation:?}({x}) = {y}, wrong by {error}");
            }
        }
    }

    #[test]
    fn every_length_is_activated_whole() {
        for length in 0..150 {
            let mut values = vec![-3.0; length];
            apply(Activation::Relu, &mut values);
            assert_eq!(values, vec![0.0; length]);
        }
    }
}
