//! The matrix product: activations, row by row, with a matrix that is packed once.
//!
//! The columns of the packed matrix are cut into panels as wide as a few vector registers, each panel stored depth
//! first and padded with zeros. A tile of [`TILE_ROWS`] rows times one panel is summed up in registers; the loops
//! around it keep a panel in the first cache and a block of rows in the second. The layout is that of BLIS (Van Zee
//! and van de Geijn, 2015), with the packing of the activations left out: their rows are read where they lie.

use std::ops::Range;

use pulp::{NullaryFnOnce, Simd, WithSimd};

use crate::{
    Activation, arch,
    math::{activate, load, map, store},
    packed::tile_vectors,
    prefetch::{LINE, prefetch},
};

pub use crate::packed::Packed;

/// Rows of a register tile.
pub const TILE_ROWS: usize = 6;
/// Rows that share the panels of a matrix while they are in the second cache.
pub const BLOCK_ROWS: usize = 192;
/// Steps of depth that the innermost loop takes at a time.
const STEPS: usize = 4;
/// Depth that is summed up at a time, so that a panel of it stays in the first cache.
const BLOCK_DEPTH: usize = 384;
/// Bytes of panels that stay in the second cache together, so that there is nothing to ask for ahead.
const NEAR: usize = 128 * 1024;

/// Rows of activations, `count` of them, `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The values.
    pub values: &'a [f32],
    /// How many rows.
    pub count: usize,
    /// Values between the starts of two rows.
    pub stride: usize,
}

/// What is done to a sum before it is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finish<'a> {
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
    /// A row of `columns` values for every row, added.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Option<Activation>,
}

/// `out` = finish(`a` ⋅ `b`). Rows of `out` are `out_stride` values apart, which is at least the columns of `b`.
pub fn product(a: Rows<'_>, b: &Packed, finish: Finish<'_>, out: &mut [f32], out_stride: usize) {
    let part = Part { columns: 0..b.columns(), depth: 0..b.depth() };
    arch().dispatch(Product { a, b, part, finish, out, out_stride });
}

/// A part of a packed matrix.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its columns; the beginning is moved down to that of a panel.
    pub columns: Range<usize>,
    /// Its depth; the rows of activations are as long.
    pub depth: Range<usize>,
}

/// Like [`product`], with a part of `b`. Of `out`, which has a place for every column of `b`, only those of the part
/// are written, and of the finish only those are read.
pub fn product_with_part(a: Rows<'_>, b: &Packed, part: Part, finish: Finish<'_>, out: &mut [f32], out_stride: usize) {
    arch().dispatch(Product { a, b, part, finish, out, out_stride });
}

struct Product<'a> {
    a: Rows<'a>,
    b: &'a Packed,
    part: Part,
    finish: Finish<'a>,
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
        let Self { a, b, part, finish, out, out_stride } = self;
        let width = V * S::F32_LANES;
        assert_eq!(width, b.width(), "a matrix is packed for the processor that uses it");
        let panels = part.columns.start / width..part.columns.end.div_ceil(width);
        let large = size_of::<f32>() * panels.len() * width * part.depth.len().min(BLOCK_DEPTH) > NEAR;
        for first_row in (0..a.count).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(a.count - first_row);
            for from in part.depth.clone().step_by(BLOCK_DEPTH) {
                let depth = BLOCK_DEPTH.min(part.depth.end - from);
                let (first, last) = (from == part.depth.start, from + depth == part.depth.end);
                for panel in panels.clone() {
                    let first_column = panel * width;
                    // Every tile asks for a part of the next panel, which is in the cache when its turn comes.
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
                        if large {
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
                            bias: finish.bias.filter(|_| last).map(|bias| &bias[first_column..]),
                            residual: finish
                                .residual
                                .filter(|_| last)
                                .map(|residual| (&residual[row * b.columns() + first_column..], b.columns())),
                        };
                        match height {
                            1 => simd.vectorize(Height::<S, 1, V>(tile)),
                            2 => simd.vectorize(Height::<S, 2, V>(tile)),
                            3 => simd.vectorize(Height::<S, 3, V>(tile)),
                            4 => simd.vectorize(Height::<S, 4, V>(tile)),
                            5 => simd.vectorize(Height::<S, 5, V>(tile)),
                            _ => simd.vectorize(Height::<S, TILE_ROWS, V>(tile)),
                        }
                        row += height;
                    }
                    if let Some(activation) = finish.activation.filter(|_| last) {
                        let out = &mut out[first_row * out_stride + first_column..];
                        ActivateRows { activation, out, stride: out_stride, rows, columns }.with_simd(simd);
                    }
                }
            }
        }
    }
}

/// Applies the activation to the first `columns` values of each of the `rows`, while they are in the first cache.
pub(crate) struct ActivateRows<'a> {
    pub(crate) activation: Activation,
    pub(crate) out: &'a mut [f32],
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
                for row in self.out.chunks_mut(self.stride).take(self.rows) {
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

/// One register tile.
struct Tile<'a, S: Simd> {
    simd: S,
    a: &'a [f32],
    a_stride: usize,
    panel: &'a [S::f32s],
    out: &'a mut [f32],
    out_stride: usize,
    columns: usize,
    /// Whether sums over an earlier depth lie in `out`.
    accumulate: bool,
    bias: Option<&'a [f32]>,
    /// The residual and its stride.
    residual: Option<(&'a [f32], usize)>,
}

/// A tile of `M` rows and `V` vectors.
struct Height<'a, S: Simd, const M: usize, const V: usize>(Tile<'a, S>);

impl<S: Simd, const M: usize, const V: usize> NullaryFnOnce for Height<'_, S, M, V> {
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

/// Adds the products of `M` rows with a panel to `sums`, which stay in registers.
#[inline(always)]
fn add_products<S: Simd, const M: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; M],
    a: &[f32],
    a_stride: usize,
    panel: &[S::f32s],
) {
    let (steps, _) = panel.as_chunks::<V>();
    // Several steps at a time: one alone would spend as much on counting as on loading.
    let (groups, rest) = steps.as_chunks::<STEPS>();
    let mut rows: [&[f32]; M] = [&[]; M];
    let mut row_groups: [&[[f32; STEPS]]; M] = [&[]; M];
    for row in 0..M {
        rows[row] = &a[row * a_stride..][..steps.len()];
        row_groups[row] = &rows[row].as_chunks().0[..groups.len()];
    }
    let mut local = *sums;
    for (index, group) in groups.iter().enumerate() {
        for depth in 0..STEPS {
            for row in 0..M {
                add_product(simd, &mut local[row], row_groups[row][index][depth], &group[depth]);
            }
        }
    }
    let first = groups.len() * STEPS;
    for (depth, step) in rest.iter().enumerate() {
        for row in 0..M {
            add_product(simd, &mut local[row], rows[row][first + depth], step);
        }
    }
    *sums = local;
}

/// Adds `value` times the columns of one step to the sums of a row.
#[inline(always)]
fn add_product<S: Simd, const V: usize>(simd: S, sums: &mut [S::f32s; V], value: f32, step: &[S::f32s; V]) {
    let value = simd.splat_f32s(value);
    for vector in 0..V {
        sums[vector] = simd.mul_add_f32s(value, step[vector], sums[vector]);
    }
}

/// For each of the `groups` of rows the largest value of every column of `a` ⋅ `b`, which is nowhere written: `out` has a
/// row of `b`'s columns for every group, and keeps what is larger there already.
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
        // A panel meets all rows while it is in the first cache.
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
                        1 => simd.vectorize(LargestHeight::<S, 1, V>(tile)),
                        2 => simd.vectorize(LargestHeight::<S, 2, V>(tile)),
                        3 => simd.vectorize(LargestHeight::<S, 3, V>(tile)),
                        4 => simd.vectorize(LargestHeight::<S, 4, V>(tile)),
                        5 => simd.vectorize(LargestHeight::<S, 5, V>(tile)),
                        _ => simd.vectorize(LargestHeight::<S, TILE_ROWS, V>(tile)),
                    }
                    row += height;
                }
            }
        }
    }
}

/// A register tile of which the largest value per column is kept.
struct LargestTile<'a, S: Simd> {
    simd: S,
    a: &'a [f32],
    a_stride: usize,
    panel: &'a [S::f32s],
    /// The columns of the panel.
    out: &'a mut [f32],
}

/// A tile of `M` rows and `V` vectors.
struct LargestHeight<'a, S: Simd, const M: usize, const V: usize>(LargestTile<'a, S>);

impl<S: Simd, const M: usize, const V: usize> NullaryFnOnce for LargestHeight<'_, S, M, V> {
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
