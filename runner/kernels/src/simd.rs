//! Slices in vectors of the processor's widest instruction set: loads, stores, and loops over whole slices.
//!
//! A function that a kernel calls has to be inlined, closures too: code outside the kernel is compiled for the oldest
//! processor and calls a function for every instruction.

use pulp::Simd;

use crate::form::Form;

/// The instruction set of this process: the widest of the processor ([`Form::of_process`]).
#[inline]
pub fn arch() -> pulp::Arch {
    // A form that was found is there.
    Form::of_process().arch().unwrap_or(pulp::Arch::Scalar)
}

/// `value`, with NaN in the lanes where `x` is NaN. The instructions for a minimum and a maximum drop NaN, which would hide
/// the overflow of a model.
#[inline(always)]
pub fn keep_nan<S: Simd>(simd: S, x: S::f32s, value: S::f32s) -> S::f32s {
    simd.select_f32s(simd.equal_f32s(x, x), value, x)
}

/// A vector of `values`, at most one per lane; the other lanes are 0.
#[inline(always)]
pub fn load<S: Simd>(simd: S, values: &[f32]) -> S::f32s {
    // A whole vector takes one instruction, a partial one many.
    match S::as_simd_f32s(values) {
        ([whole], []) => *whole,
        _ => simd.partial_load_f32s(values),
    }
}

/// Writes the first `places.len()` lanes of a vector.
#[inline(always)]
pub fn store<S: Simd>(simd: S, places: &mut [f32], value: S::f32s) {
    match S::as_mut_simd_f32s(places) {
        ([whole], []) => *whole = value,
        _ => simd.partial_store_f32s(places, value),
    }
}

/// Replaces every vector of `values` with `f` of it; a partial last vector is padded with zeros.
#[inline(always)]
pub fn map<S: Simd>(simd: S, values: &mut [f32], f: impl Fn(S::f32s) -> S::f32s) {
    let (head, tail) = S::as_mut_simd_f32s(values);
    for value in head {
        *value = f(*value);
    }
    if !tail.is_empty() {
        let value = f(simd.partial_load_f32s(tail));
        simd.partial_store_f32s(tail, value);
    }
}

/// Replaces every vector of `values` with `f` of it and the same vector of `others`, which has the same length.
#[inline(always)]
pub fn zip<S: Simd>(simd: S, values: &mut [f32], others: &[f32], f: impl Fn(S::f32s, S::f32s) -> S::f32s) {
    let others = &others[..values.len()];
    let (head, tail) = S::as_mut_simd_f32s(values);
    let (other_head, other_tail) = S::as_simd_f32s(others);
    for (value, other) in head.iter_mut().zip(other_head) {
        *value = f(*value, *other);
    }
    if !tail.is_empty() {
        let value = f(simd.partial_load_f32s(tail), simd.partial_load_f32s(other_tail));
        simd.partial_store_f32s(tail, value);
    }
}

/// Σ f(x) over `values`.
#[inline(always)]
pub fn sum<S: Simd>(simd: S, values: &[f32], f: impl Fn(S::f32s) -> S::f32s) -> f32 {
    let zero = simd.splat_f32s(0.0);
    let (head, tail) = S::as_simd_f32s(values);
    // Four independent sums: the additions of a single one would wait for each other.
    let mut sums = [zero; 4];
    let (fours, rest) = head.as_chunks::<4>();
    for four in fours {
        for (sum, value) in sums.iter_mut().zip(four) {
            *sum = simd.add_f32s(*sum, f(*value));
        }
    }
    for value in rest {
        sums[0] = simd.add_f32s(sums[0], f(*value));
    }
    let total = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    let mut rest = 0.0;
    for value in tail {
        rest += first_lane(simd, f(simd.splat_f32s(*value)));
    }
    simd.reduce_sum_f32s(total) + rest
}

/// The largest of `values`, or -∞ if there are none.
#[inline(always)]
pub fn largest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let (head, tail) = S::as_simd_f32s(values);
    let mut lanes = simd.splat_f32s(f32::NEG_INFINITY);
    for value in head {
        lanes = simd.max_f32s(lanes, *value);
    }
    tail.iter().copied().fold(simd.reduce_max_f32s(lanes), f32::max)
}

#[inline(always)]
fn first_lane<S: Simd>(simd: S, value: S::f32s) -> f32 {
    let mut first = [0.0];
    simd.partial_store_f32s(&mut first, value);
    first[0]
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::*;

    #[test]
    fn every_length_is_summed_whole() {
        struct Sum<'a>(&'a [f32]);
        impl WithSimd for Sum<'_> {
            type Output = f32;
            fn with_simd<S: Simd>(self, simd: S) -> f32 {
                sum(
                    simd,
                    self.0,
                    #[inline(always)]
                    |x| simd.add_f32s(x, simd.splat_f32s(4.0)),
                )
            }
        }
        for length in 0..150 {
            assert!((arch().dispatch(Sum(&vec![-3.0; length])) - length as f32).abs() < 1e-6, "{length}");
        }
    }
}
