//! The largest value of each column of a product, over groups of rows, without the product in memory.

use std::ops::Range;

use pulp::{NullaryFnOnce, Simd, WithSimd};

use super::{
    blocking::{TILE_ROWS, tile_vectors},
    operands::Rows,
    packed::Packed,
    tile::add_products,
};
use crate::simd::{arch, load, store};

/// The largest value of every column of `a` ⋅ `b` in each of the `groups` of rows. `out` is `[groups, columns of b]`; its
/// values are replaced where they are smaller. The product itself is never written to memory.
pub fn largest_product(a: Rows<'_>, b: &Packed, groups: &[Range<usize>], out: &mut [f32]) {
    arch().dispatch(LargestProduct { a, b, groups, out });
}

struct LargestProduct<'a> {
    a: Rows<'a>,
    b: &'a Packed,
    groups: &'a [Range<usize>],
    out: &'a mut [f32],
}

impl WithSimd for LargestProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match tile_vectors(S::REGISTER_COUNT) {
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

impl LargestProduct<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { a, b, groups, out } = self;
        let width = V * S::F32_LANES;
        assert_eq!(width, b.width(), "a matrix is packed for the processor that uses it");
        // All rows are multiplied with a panel while it is in the first-level cache.
        for (panel, first_column) in b.panels().zip((0..b.columns()).step_by(width)) {
            let (panel, _) = S::as_simd_f32s(panel);
            let columns = width.min(b.columns() - first_column);
            for (group, out) in groups.iter().zip(out.chunks_exact_mut(b.columns())) {
                let out = &mut out[first_column..][..columns];
                let mut row = group.start;
                while row < group.end {
                    let height = TILE_ROWS.min(group.end - row);
                    let tile =
                        LargestTile::<S> { simd, a: &a.values[row * a.stride..], a_stride: a.stride, panel, out };
                    match height {
                        1 => simd.vectorize(SizedLargestTile::<S, 1, V>(tile)),
                        2 => simd.vectorize(SizedLargestTile::<S, 2, V>(tile)),
                        3 => simd.vectorize(SizedLargestTile::<S, 3, V>(tile)),
                        4 => simd.vectorize(SizedLargestTile::<S, 4, V>(tile)),
                        5 => simd.vectorize(SizedLargestTile::<S, 5, V>(tile)),
                        _ => simd.vectorize(SizedLargestTile::<S, TILE_ROWS, V>(tile)),
                    }
                    row += height;
                }
            }
        }
    }
}

/// A register tile that is reduced to the largest value per column.
struct LargestTile<'a, S: Simd> {
    simd: S,
    a: &'a [f32],
    a_stride: usize,
    panel: &'a [S::f32s],
    /// The columns of the panel.
    out: &'a mut [f32],
}

/// A tile of `M` rows and `V` vectors.
struct SizedLargestTile<'a, S: Simd, const M: usize, const V: usize>(LargestTile<'a, S>);

impl<S: Simd, const M: usize, const V: usize> NullaryFnOnce for SizedLargestTile<'_, S, M, V> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let LargestTile { simd, a, a_stride, panel, out } = self.0;
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        add_products::<S, M, V>(simd, &mut sums, a, a_stride, panel);
        for (vector, from) in (0..V).zip((0..out.len()).step_by(S::F32_LANES)) {
            let to = out.len().min(from + S::F32_LANES);
            let mut largest = load(simd, &out[from..to]);
            for row in &sums {
                largest = simd.max_f32s(largest, row[vector]);
            }
            store(simd, &mut out[from..to], largest);
        }
    }
}
