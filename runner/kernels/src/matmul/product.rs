//! The product of rows of activations with a packed matrix, in blocks that fit the caches.

use std::ops::Range;

use pulp::{NullaryFnOnce, Simd, WithSimd};

use super::{
    blocking::{BLOCK_ROWS, TILE_ROWS, tile_vectors},
    operands::{Epilogue, Rows},
    packed::Packed,
    tile::add_products,
};
use crate::{
    math::ActivateRows,
    prefetch::{LINE, prefetch},
    simd::{arch, load, store},
};

/// Depth that is summed up at a time, so that this part of a panel stays in the first-level cache.
const BLOCK_DEPTH: usize = 384;
/// Bytes of panels that stay in the second-level cache together; a smaller matrix needs no prefetching.
const CACHED_BYTES: usize = 128 * 1024;

/// `out` = epilogue(`a` ⋅ `b`). Rows of `out` are `out_stride` values apart, which is at least the columns of `b`.
pub fn product(a: Rows<'_>, b: &Packed, epilogue: Epilogue<'_>, out: &mut [f32], out_stride: usize) {
    let part = SubMatrix { columns: 0..b.columns(), depth: 0..b.depth() };
    arch().dispatch(Product { a, b, part, epilogue, out, out_stride });
}

/// A part of a packed matrix.
#[derive(Clone, Debug)]
pub struct SubMatrix {
    /// Its columns; the start is rounded down to that of a panel.
    pub columns: Range<usize>,
    /// Its depth, which is also the length of the rows of activations.
    pub depth: Range<usize>,
}

/// Same as [`product`], with a part of `b`. `out` and `epilogue` have values for every column of `b`; only the columns of
/// the part are written and read.
pub fn product_with_submatrix(
    a: Rows<'_>,
    b: &Packed,
    part: SubMatrix,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    arch().dispatch(Product { a, b, part, epilogue, out, out_stride });
}

struct Product<'a> {
    a: Rows<'a>,
    b: &'a Packed,
    part: SubMatrix,
    epilogue: Epilogue<'a>,
    out: &'a mut [f32],
    out_stride: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match tile_vectors(S::REGISTER_COUNT) {
            4 => self.run::<S, 4>(simd),
            _ => self.run::<S, 2>(simd),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S) {
        let Self { a, b, part, epilogue, out, out_stride } = self;
        let width = V * S::F32_LANES;
        assert_eq!(width, b.width(), "a matrix is packed for the processor that uses it");
        let panels = part.columns.start / width..part.columns.end.div_ceil(width);
        let prefetching = size_of::<f32>() * panels.len() * width * part.depth.len().min(BLOCK_DEPTH) > CACHED_BYTES;
        for first_row in (0..a.count).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(a.count - first_row);
            for from in part.depth.clone().step_by(BLOCK_DEPTH) {
                let depth = BLOCK_DEPTH.min(part.depth.end - from);
                let (first, last) = (from == part.depth.start, from + depth == part.depth.end);
                for panel in panels.clone() {
                    let first_column = panel * width;
                    // Every tile prefetches a part of the next panel, which is then in the cache in time.
                    let next = if panel + 1 < panels.end { panel + 1 } else { panels.start };
                    let tiles = rows.div_ceil(TILE_ROWS);
                    let next = b.panel(next, from, depth);
                    let mut next = next.chunks(next.len().div_ceil(tiles).next_multiple_of(LINE / size_of::<f32>()));
                    let (panel, _) = S::as_simd_f32s(b.panel(panel, from, depth));
                    let columns = width.min(b.columns() - first_column);
                    let mut row = first_row;
                    while row < first_row + rows {
                        let height = TILE_ROWS.min(first_row + rows - row);
                        let place = row * out_stride + first_column;
                        if prefetching {
                            prefetch(next.next().unwrap_or_default());
                            for next_row in (row + height..first_row + rows).take(TILE_ROWS) {
                                prefetch(&out[next_row * out_stride + first_column..][..columns]);
                            }
                        }
                        let tile = Tile::<S> {
                            simd,
                            a: &a.values[row * a.stride + from - part.depth.start..],
                            a_stride: a.stride,
                            panel,
                            out: &mut out[place..],
                            out_stride,
                            columns,
                            accumulate: !first,
                            bias: epilogue.bias.filter(|_| last).map(|bias| &bias[first_column..]),
                            residual: epilogue
                                .residual
                                .filter(|_| last)
                                .map(|residual| (&residual[row * b.columns() + first_column..], b.columns())),
                        };
                        match height {
                            1 => simd.vectorize(SizedTile::<S, 1, V>(tile)),
                            2 => simd.vectorize(SizedTile::<S, 2, V>(tile)),
                            3 => simd.vectorize(SizedTile::<S, 3, V>(tile)),
                            4 => simd.vectorize(SizedTile::<S, 4, V>(tile)),
                            5 => simd.vectorize(SizedTile::<S, 5, V>(tile)),
                            _ => simd.vectorize(SizedTile::<S, TILE_ROWS, V>(tile)),
                        }
                        row += height;
                    }
                    if let Some(activation) = epilogue.activation.filter(|_| last) {
                        let out = &mut out[first_row * out_stride + first_column..];
                        ActivateRows { activation, values: out, stride: out_stride, rows, columns }.with_simd(simd);
                    }
                }
            }
        }
    }
}

/// One register tile.
struct Tile<'a, S: Simd> {
    simd: S,
    a: &'a [f32],
    a_stride: usize,
    panel: &'a [S::f32s],
    out: &'a mut [f32],
    out_stride: usize,
    columns: usize,
    /// Whether `out` has the sums over the depth before.
    accumulate: bool,
    bias: Option<&'a [f32]>,
    /// The residual and its stride.
    residual: Option<(&'a [f32], usize)>,
}

/// A tile of `M` rows and `V` vectors.
struct SizedTile<'a, S: Simd, const M: usize, const V: usize>(Tile<'a, S>);

impl<S: Simd, const M: usize, const V: usize> NullaryFnOnce for SizedTile<'_, S, M, V> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        if self.0.columns < V * S::F32_LANES {
            return self.0.narrow::<M, V>();
        }
        let Tile { simd, a, a_stride, panel, out, out_stride, accumulate, bias, residual, .. } = self.0;
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        if let Some(bias) = bias {
            let bias = whole::<S, V>(bias);
            for row in &mut sums {
                *row = *bias;
            }
        }
        if let Some((residual, stride)) = residual {
            for (row, sums) in sums.iter_mut().enumerate() {
                add(simd, sums, whole::<S, V>(&residual[row * stride..]));
            }
        }
        if accumulate {
            for (row, sums) in sums.iter_mut().enumerate() {
                add(simd, sums, whole::<S, V>(&out[row * out_stride..]));
            }
        }
        add_products::<S, M, V>(simd, &mut sums, a, a_stride, panel);
        for (row, sums) in sums.into_iter().enumerate() {
            let (out, _) = S::as_mut_simd_f32s(&mut out[row * out_stride..][..V * S::F32_LANES]);
            let (out, _) = out.as_chunks_mut::<V>();
            out[0] = sums;
        }
    }
}

/// The first `V` vectors of `values`.
#[inline(always)]
fn whole<S: Simd, const V: usize>(values: &[f32]) -> &[S::f32s; V] {
    let (vectors, _) = S::as_simd_f32s(&values[..V * S::F32_LANES]);
    &vectors.as_chunks::<V>().0[0]
}

#[inline(always)]
fn add<S: Simd, const V: usize>(simd: S, sums: &mut [S::f32s; V], values: &[S::f32s; V]) {
    for vector in 0..V {
        sums[vector] = simd.add_f32s(sums[vector], values[vector]);
    }
}

impl<S: Simd> Tile<'_, S> {
    /// A tile of the last panel, where the matrix ends before the panel does.
    #[inline(always)]
    fn narrow<const M: usize, const V: usize>(self) {
        let Tile { simd, a, a_stride, panel, out, out_stride, columns, accumulate, bias, residual } = self;
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        add_products::<S, M, V>(simd, &mut sums, a, a_stride, panel);
        for (row, sums) in sums.into_iter().enumerate() {
            let out = &mut out[row * out_stride..];
            let residual = residual.map(|(values, stride)| &values[row * stride..]);
            for (sum, from) in sums.into_iter().zip((0..columns).step_by(S::F32_LANES)) {
                let to = columns.min(from + S::F32_LANES);
                let mut value = sum;
                if accumulate {
                    value = simd.add_f32s(value, load(simd, &out[from..to]));
                }
                if let Some(bias) = bias {
                    value = simd.add_f32s(value, load(simd, &bias[from..to]));
                }
                if let Some(residual) = residual {
                    value = simd.add_f32s(value, load(simd, &residual[from..to]));
                }
                store(simd, &mut out[from..to], value);
            }
        }
    }
}
