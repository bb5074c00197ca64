//! Small kernels over single rows: sums, products, maxima, rotation, length.

use pulp::{Simd, WithSimd};

use crate::simd::{arch, keep_nan, map, sum, zip};

/// `row` += `scale` ⋅ `other`.
pub fn add_scaled(row: &mut [f32], other: &[f32], scale: f32) {
    struct AddScaled<'a>(&'a mut [f32], &'a [f32], f32);
    impl WithSimd for AddScaled<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let scale = simd.splat_f32s(self.2);
            zip(
                simd,
                self.0,
                self.1,
                #[inline(always)]
                |x, y| simd.mul_add_f32s(y, scale, x),
            );
        }
    }
    arch().dispatch(AddScaled(row, other, scale));
}

/// `row` *= `other`, element by element.
pub fn multiply(row: &mut [f32], other: &[f32]) {
    struct Multiply<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Multiply<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            zip(
                simd,
                self.0,
                self.1,
                #[inline(always)]
                |x, y| simd.mul_f32s(x, y),
            );
        }
    }
    arch().dispatch(Multiply(row, other));
}

/// `row` = max(`row`, `other`), element by element; NaN if either is NaN.
pub fn maximum(row: &mut [f32], other: &[f32]) {
    struct Maximum<'a>(&'a mut [f32], &'a [f32]);
    impl WithSimd for Maximum<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            zip(
                simd,
                self.0,
                self.1,
                #[inline(always)]
                |x, y| keep_nan(simd, y, keep_nan(simd, x, simd.max_f32s(x, y))),
            );
        }
    }
    arch().dispatch(Maximum(row, other));
}

/// `row` *= `scale`.
pub fn scale(row: &mut [f32], scale: f32) {
    struct Scale<'a>(&'a mut [f32], f32);
    impl WithSimd for Scale<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let scale = simd.splat_f32s(self.1);
            map(
                simd,
                self.0,
                #[inline(always)]
                |x| simd.mul_f32s(x, scale),
            );
        }
    }
    arch().dispatch(Scale(row, scale));
}

/// Rotates the halves of `row` against each other, as rotary position embeddings do: (a, b) becomes
/// (a⋅cos - b⋅sin, b⋅cos + a⋅sin). `cos` and `sin` have as many values as a half.
pub fn rotate(row: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (first, second) = row.split_at_mut(cos.len());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// The Euclidean length of `row`.
pub fn length(row: &[f32]) -> f32 {
    struct Squares<'a>(&'a [f32]);
    impl WithSimd for Squares<'_> {
        type Output = f32;
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f32 {
            sum(
                simd,
                self.0,
                #[inline(always)]
                |x| simd.mul_f32s(x, x),
            )
        }
    }
    arch().dispatch(Squares(row)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_keeps_nan_of_either_row() {
        let row = [0.5, f32::NAN, -3.0, f32::NAN, 7.0, 0.0, 1.0, 2.0, f32::NAN];
        let other = [f32::NAN, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        for (mut row, other) in [(row, other), (other, row)] {
            maximum(&mut row, &other);
            assert_eq!(row.map(f32::is_nan), [true, true, false, true, false, false, false, false, true]);
        }
    }
}
