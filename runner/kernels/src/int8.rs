//! The matrix product in 8-bit integers: a matrix that is quantised and packed once, activations that are quantised row
//! by row while computing, sums in 32-bit integers.
//!
//! A weight is `scale` ⋅ q with q in -127..=127 and a scale per column; an activation is `scale` ⋅ (q - `zero`) with q in
//! 0..=127 and both per row (Jacob et al., 2018). A sum of products of the q is exact, whatever the instruction set; the
//! column's sum of weights, kept beside them, takes the zero back out. The layout is that of [`crate::matmul`], with
//! four steps of depth of a column side by side, as the instructions of [`dot`] want them.

mod dot;

use aligned_vec::{AVec, ConstAlign};
use pulp::{NullaryFnOnce, Simd, WithSimd, bytemuck};

use self::dot::{Dot, GROUP, Instructions, LARGEST, Portable, lanes};
use crate::{
    arch,
    math::load,
    matmul::{ActivateRows, BLOCK_ROWS, Finish, Rows},
    prefetch::{LINE, prefetch},
};

/// Rows of a register tile: with a sixth, AVX2 has no registers left for what is multiplied.
const TILE_ROWS: usize = 5;
/// Groups that the innermost loop takes at a time.
const STEPS: usize = 2;
/// Values that are quantised at a time.
const CHUNK: usize = 32;
/// Added to a value, 1.5⋅2²³ rounds it to an integer, which then stands in the lowest bits.
const ROUND: f32 = 12_582_912.0;
/// No sum of so many products leaves 32 bits.
pub const LARGEST_DEPTH: usize = i32::MAX as usize / (LARGEST as usize * LARGEST as usize);

/// A matrix, depth × columns, in 8-bit integers and in panels for the instructions of this processor.
#[derive(Clone, Debug)]
pub struct PackedInt8 {
    columns: usize,
    depth: usize,
    instructions: Instructions,
    /// Per panel and group of depth, [`GROUP`] weights of each of its columns, padded with zeros.
    panels: AVec<i8, ConstAlign<LINE>>,
    /// What each column's weights are multiplied with.
    scales: Vec<f32>,
    /// The sum of each column's weights.
    sums: Vec<i32>,
}

impl PackedInt8 {
    /// Quantises and packs the transpose of `rows` (columns × depth), as a linear layer stores its weight. Between the
    /// starts of two rows are `stride` values.
    ///
    /// # Panics
    /// If the depth is above [`LARGEST_DEPTH`].
    pub fn transposed(rows: &[f32], columns: usize, depth: usize, stride: usize) -> Self {
        let best = Instructions::available().next().unwrap_or(Instructions::Portable);
        Self::transposed_for(best, rows, columns, depth, stride)
    }

    fn transposed_for(instructions: Instructions, rows: &[f32], columns: usize, depth: usize, stride: usize) -> Self {
        assert!(depth <= LARGEST_DEPTH, "sums of {depth} products leave 32 bits");
        let width = panel_width(instructions);
        let panel_bytes = depth.div_ceil(GROUP) * GROUP * width;
        let mut panels = AVec::new(LINE);
        panels.resize(columns.div_ceil(width) * panel_bytes, 0);
        let (mut scales, mut sums) = (Vec::with_capacity(columns), Vec::with_capacity(columns));
        for column in 0..columns {
            let row = &rows[column * stride..][..depth];
            let scale = row.iter().fold(0.0, |largest: f32, weight| largest.max(weight.abs())) / f32::from(LARGEST);
            let panel = &mut panels[column / width * panel_bytes..][..panel_bytes];
            let mut sum = 0;
            for (at, weight) in row.iter().enumerate() {
                let quantised = if scale > 0.0 { (weight / scale).round() as i8 } else { 0 };
                panel[(at / GROUP * width + column % width) * GROUP + at % GROUP] = quantised;
                sum += i32::from(quantised);
            }
            scales.push(scale);
            sums.push(sum);
        }
        Self { columns, depth, instructions, panels, scales, sums }
    }

    /// The columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The depth, the length of the sums.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// The width of a panel: a register tile's, as that of [`crate::matmul`].
fn panel_width(instructions: Instructions) -> usize {
    match instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512Vnni(_) => 4 * lanes::<dot::x86::Avx512Vnni>(),
        #[cfg(target_arch = "x86_64")]
        Instructions::AvxVnni(_) | Instructions::Avx2(_) => 2 * lanes::<pulp::x86::V3>(),
        Instructions::Portable => 2 * lanes::<Portable>(),
    }
}

/// `out` = finish(`a` ⋅ `b`), `a` quantised on the way. Rows of `out` are `out_stride` values apart, which is at least
/// the columns of `b`. A row with a value that is not finite has none that is after it, as in f32.
pub fn product(a: Rows<'_>, b: &PackedInt8, finish: Finish<'_>, out: &mut [f32], out_stride: usize) {
    let product = Product { a, b, finish, out, out_stride };
    match b.instructions {
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx512Vnni(dot) => product.run::<_, 4>(dot),
        #[cfg(target_arch = "x86_64")]
        Instructions::AvxVnni(dot) => product.run::<_, 2>(dot),
        #[cfg(target_arch = "x86_64")]
        Instructions::Avx2(dot) => product.run::<_, 2>(dot),
        Instructions::Portable => product.run::<_, 2>(Portable),
    }
}

struct Product<'a> {
    a: Rows<'a>,
    b: &'a PackedInt8,
    finish: Finish<'a>,
    out: &'a mut [f32],
    out_stride: usize,
}

impl Product<'_> {
    fn run<D: Dot, const V: usize>(self, dot: D) {
        let Self { a, b, finish, out, out_stride } = self;
        let groups = b.depth.div_ceil(GROUP);
        let width = V * lanes::<D>();
        let panel_bytes = groups * GROUP * width;
        let mut quantised = Quantised::default();
        for first_row in (0..a.count).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(a.count - first_row);
            quantised.take(Rows { values: &a.values[first_row * a.stride..], count: rows, ..a }, b.depth);
            for first_column in (0..b.columns).step_by(width) {
                let columns = width.min(b.columns - first_column);
                let panel = |first_column: usize| &b.panels[first_column / width * panel_bytes..][..panel_bytes];
                // Every tile asks for a part of the next panel, which is in the cache when its turn comes.
                let next = panel(if first_column + width < b.columns { first_column + width } else { 0 });
                let part = next.len().div_ceil(rows.div_ceil(TILE_ROWS)).next_multiple_of(LINE);
                let mut next = next.chunks(part.max(LINE));
                let panel = bytemuck::cast_slice(panel(first_column));
                for row in (0..rows).step_by(TILE_ROWS) {
                    let height = TILE_ROWS.min(rows - row);
                    let place = |row: usize| (first_row + row) * out_stride + first_column;
                    prefetch(next.next().unwrap_or_default());
                    for next_row in (row + height..rows).take(TILE_ROWS) {
                        prefetch(&out[place(next_row)..][..columns]);
                    }
                    let tile = Tile::<D> {
                        dot,
                        a: &quantised.values[row * groups..],
                        groups,
                        scales: &quantised.scales[row..],
                        panel,
                        column_scales: &b.scales[first_column..][..columns],
                        column_sums: &b.sums[first_column..][..columns],
                        out: &mut out[place(row)..],
                        out_stride,
                        bias: finish.bias.map(|bias| &bias[first_column..]),
                        residual: finish
                            .residual
                            .map(|residual| (&residual[(first_row + row) * b.columns + first_column..], b.columns)),
                    };
                    match height {
                        1 => dot.vectorize(Height::<D, 1, V>(tile)),
                        2 => dot.vectorize(Height::<D, 2, V>(tile)),
                        3 => dot.vectorize(Height::<D, 3, V>(tile)),
                        4 => dot.vectorize(Height::<D, 4, V>(tile)),
                        _ => dot.vectorize(Height::<D, TILE_ROWS, V>(tile)),
                    }
                }
                if let Some(activation) = finish.activation {
                    let out = &mut out[first_row * out_stride + first_column..];
                    arch().dispatch(ActivateRows { activation, out, stride: out_stride, rows, columns });
                }
            }
        }
    }
}

/// One register tile.
struct Tile<'a, D: Dot> {
    dot: D,
    /// Quantised rows.
    a: &'a [[u8; GROUP]],
    /// Groups of a row.
    groups: usize,
    scales: &'a [RowScale],
    panel: &'a [D::Weights],
    column_scales: &'a [f32],
    column_sums: &'a [i32],
    out: &'a mut [f32],
    out_stride: usize,
    bias: Option<&'a [f32]>,
    /// The residual and its stride.
    residual: Option<(&'a [f32], usize)>,
}

/// A tile of `M` rows and `V` vectors.
struct Height<'a, D: Dot, const M: usize, const V: usize>(Tile<'a, D>);

impl<D: Dot, const M: usize, const V: usize> NullaryFnOnce for Height<'_, D, M, V> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = V * lanes::<D>();
        let sums = sums::<D, M, V>(self.0.dot, self.0.a, self.0.groups, self.0.panel);
        // The usual width is a constant, so that the loops over it are unrolled.
        if self.0.column_sums.len() == width {
            self.0.finish(&sums, width);
        } else {
            let columns = self.0.column_sums.len();
            self.0.finish(&sums, columns);
        }
    }
}

impl<D: Dot> Tile<'_, D> {
    #[inline(always)]
    fn finish<const M: usize, const V: usize>(self, sums: &[[D::Sums; V]; M], columns: usize) {
        let (column_scales, column_sums) = (&self.column_scales[..columns], &self.column_sums[..columns]);
        for row in 0..M {
            let sums = &bytemuck::cast_slice::<D::Sums, i32>(&sums[row])[..columns];
            let RowScale { scale, zero } = self.scales[row];
            let out = &mut self.out[row * self.out_stride..][..columns];
            for column in 0..columns {
                let sum = sums[column] - zero * column_sums[column];
                out[column] = sum as f32 * (scale * column_scales[column]);
            }
            if let Some(bias) = self.bias {
                add(out, &bias[..columns]);
            }
            if let Some((residual, stride)) = self.residual {
                add(out, &residual[row * stride..][..columns]);
            }
        }
    }
}

#[inline(always)]
fn add(out: &mut [f32], values: &[f32]) {
    for at in 0..out.len() {
        out[at] += values[at];
    }
}

/// The sums of the products of `M` rows with a panel, which stay in registers meanwhile.
#[inline(always)]
fn sums<D: Dot, const M: usize, const V: usize>(
    dot: D,
    a: &[[u8; GROUP]],
    groups: usize,
    panel: &[D::Weights],
) -> [[D::Sums; V]; M] {
    let steps = &panel.as_chunks::<V>().0[..groups];
    let (several, rest) = steps.as_chunks::<STEPS>();
    let mut rows: [&[[u8; GROUP]]; M] = [&[]; M];
    let mut row_groups: [&[[[u8; GROUP]; STEPS]]; M] = [&[]; M];
    for row in 0..M {
        rows[row] = &a[row * groups..][..groups];
        row_groups[row] = &rows[row].as_chunks().0[..several.len()];
    }
    let mut sums: [[D::Sums; V]; M] = [[bytemuck::Zeroable::zeroed(); V]; M];
    for (index, steps) in several.iter().enumerate() {
        for step in 0..STEPS {
            for row in 0..M {
                add_products(dot, &mut sums[row], row_groups[row][index][step], &steps[step]);
            }
        }
    }
    let first = several.len() * STEPS;
    for (index, step) in rest.iter().enumerate() {
        for row in 0..M {
            add_products(dot, &mut sums[row], rows[row][first + index], step);
        }
    }
    sums
}

/// Adds a group of activations times the columns of one step to the sums of a row.
#[inline(always)]
fn add_products<D: Dot, const V: usize>(
    dot: D,
    sums: &mut [D::Sums; V],
    activations: [u8; GROUP],
    step: &[D::Weights; V],
) {
    for vector in 0..V {
        sums[vector] = dot.add(sums[vector], activations, step[vector]);
    }
}

/// How a row of activations is quantised: x = `scale` ⋅ (q - `zero`).
#[derive(Clone, Copy, Debug)]
struct RowScale {
    /// NaN where a value is not finite.
    scale: f32,
    zero: i32,
}

/// Rows of activations in 8-bit integers, without gaps, each padded to whole groups.
#[derive(Debug, Default)]
struct Quantised {
    values: Vec<[u8; GROUP]>,
    scales: Vec<RowScale>,
}

impl Quantised {
    /// Quantises `rows` of `depth` values.
    fn take(&mut self, rows: Rows<'_>, depth: usize) {
        let groups = depth.div_ceil(GROUP);
        self.values.resize(rows.count * groups, [0; GROUP]);
        self.scales.clear();
        arch().dispatch(Quantise { rows, depth, groups, quantised: self });
    }
}

struct Quantise<'a> {
    rows: Rows<'a>,
    depth: usize,
    groups: usize,
    quantised: &'a mut Quantised,
}

impl WithSimd for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, depth, groups, quantised } = self;
        for row in 0..rows.count {
            let values = &rows.values[row * rows.stride..][..depth];
            let out = quantised.values[row * groups..][..groups].as_flattened_mut();
            quantised.scales.push(quantise(simd, values, out));
        }
    }
}

/// Quantises a row into `out`, which may be longer.
#[inline(always)]
fn quantise<S: Simd>(simd: S, values: &[f32], out: &mut [u8]) -> RowScale {
    let (scale, smallest) = range(simd, values);
    // Rows next to nothing are nothing.
    let inverse = if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
    let zero = (-smallest * inverse + ROUND) - ROUND;
    let (inverse, shift) = (simd.splat_f32s(inverse), simd.splat_f32s(ROUND + zero));
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    let (out_chunks, _) = out.as_chunks_mut::<CHUNK>();
    for index in 0..chunks.len() {
        out_chunks[index] = quantise_chunk(simd, &chunks[index], inverse, shift);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; CHUNK];
        padded[..rest.len()].copy_from_slice(rest);
        let quantised = quantise_chunk(simd, &padded, inverse, shift);
        let places = out[chunks.len() * CHUNK..].iter_mut();
        for (place, value) in places.zip(quantised) {
            *place = value;
        }
    }
    RowScale { scale, zero: zero as i32 }
}

/// The scale of a row whose smallest value is the one beside it, or 0; NaN where a value is not finite.
#[inline(always)]
fn range<S: Simd>(simd: S, values: &[f32]) -> (f32, f32) {
    let zero = simd.splat_f32s(0.0);
    let (mut smallest, mut largest, mut not_finite) = (zero, zero, zero);
    for from in (0..values.len()).step_by(S::F32_LANES) {
        let value = load(simd, &values[from..values.len().min(from + S::F32_LANES)]);
        smallest = simd.min_f32s(smallest, value);
        largest = simd.max_f32s(largest, value);
        // 0 times infinity is NaN, and NaN remains.
        not_finite = simd.mul_add_f32s(value, zero, not_finite);
    }
    let smallest = simd.reduce_min_f32s(smallest);
    let largest = simd.reduce_max_f32s(largest);
    ((largest - smallest) / f32::from(LARGEST) + simd.reduce_sum_f32s(not_finite), smallest)
}

/// x ⋅ `inverse` + zero, rounded, where `shift` is the zero plus [`ROUND`].
#[inline(always)]
fn quantise_chunk<S: Simd>(simd: S, values: &[f32; CHUNK], inverse: S::f32s, shift: S::f32s) -> [u8; CHUNK] {
    let (lowest, highest) = (simd.splat_f32s(ROUND), simd.splat_f32s(ROUND + f32::from(LARGEST)));
    let mut bits = [0; CHUNK];
    let ((values, _), (places, _)) = (S::as_simd_f32s(values), S::as_mut_simd_u32s(&mut bits));
    for at in 0..values.len() {
        let value = simd.mul_add_f32s(values[at], inverse, shift);
        // The zero is rounded too, so that the ends can be one too far.
        let value = simd.min_f32s(simd.max_f32s(value, lowest), highest);
        places[at] = simd.transmute_u32s_f32s(value);
    }
    let mut quantised = [0; CHUNK];
    for at in 0..CHUNK {
        quantised[at] = bits[at] as u8;
    }
    quantised
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Activation;

    /// Rows, depth and columns: one of each, and whole and partial groups, chunks, tiles, blocks and panels.
    const SHAPES: [(usize, usize, usize); 14] = [
        (1, 1, 1),
        (1, 4, 16),
        (2, 3, 5),
        (3, 31, 17),
        (4, 32, 64),
        (5, 33, 65),
        (6, 127, 15),
        (7, 384, 33),
        (13, 386, 130),
        (97, 30, 31),
        (192, 16, 48),
        (193, 65, 7),
        (400, 100, 20),
        (9, 1000, 70),
    ];

    /// Values between -1 and 1 that depend on the seed alone.
    fn random(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn rows(values: &[f32], count: usize, stride: usize) -> Rows<'_> {
        Rows { values, count, stride }
    }

    #[test]
    fn the_sums_of_integers_are_exact_with_every_instruction_set() {
        for (count, depth, columns) in SHAPES {
            // Each row spans 0..=127 and each column reaches 127, so that the integers are what they are quantised to.
            let integers = |seed, count, from: f32, to: f32| -> Vec<f32> {
                let values = random(seed, count * depth);
                let value = |(at, x): (usize, f32)| match at % depth {
                    0 => to,
                    1 => from,
                    _ => (from + (to - from) * x.abs()).round(),
                };
                values.into_iter().enumerate().map(value).collect()
            };
            let zero = 50.0;
            let (a, b) = (integers(1, count, -zero, 127.0 - zero), integers(2, columns, -127.0, 127.0));
            // One value alone does not span it.
            let a = if depth == 1 { vec![127.0; count] } else { a };
            for instructions in Instructions::available() {
                let packed = PackedInt8::transposed_for(instructions, &b, columns, depth, depth);
                let mut out = vec![f32::NAN; count * columns];
                product(rows(&a, count, depth), &packed, Finish::default(), &mut out, columns);
                for (row, out) in a.chunks(depth).zip(out.chunks(columns)) {
                    for (column, found) in b.chunks(depth).zip(out) {
                        let exact: i32 = row.iter().zip(column).map(|(x, y)| *x as i32 * *y as i32).sum();
                        assert_eq!(*found as i32, exact, "{instructions:?}, {count} × {depth} × {columns}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_what_the_portable_form_gives() {
        for (count, depth, columns) in SHAPES {
            let (a, b) = (random(1, count * depth), random(2, columns * depth));
            let (bias, residual) = (random(3, columns), random(4, count * columns));
            for activation in [None, Some(Activation::Gelu), Some(Activation::Relu)] {
                let computed = |instructions| {
                    let packed = PackedInt8::transposed_for(instructions, &b, columns, depth, depth);
                    let finish = Finish { bias: Some(&bias), residual: Some(&residual), activation };
                    let mut out = vec![f32::NAN; count * columns];
                    product(rows(&a, count, depth), &packed, finish, &mut out, columns);
                    out
                };
                let portable = computed(Instructions::Portable);
                for instructions in Instructions::available() {
                    let case = format!("{instructions:?}, {count} × {depth} × {columns}, {activation:?}");
                    assert_eq!(computed(instructions), portable, "{case}");
                }
            }
        }
    }

    #[test]
    fn the_product_is_that_of_the_values_within_the_steps_of_both_scales() {
        for (count, depth, columns) in SHAPES {
            let (a, b) = (random(5, count * depth), random(6, columns * depth));
            let (bias, residual) = (random(7, columns), random(8, count * columns));
            let packed = PackedInt8::transposed(&b, columns, depth, depth);
            let finish = Finish { bias: Some(&bias), residual: Some(&residual), activation: None };
            let mut out = vec![f32::NAN; count * columns];
            product(rows(&a, count, depth), &packed, finish, &mut out, columns);
            // Values are below 1: an activation is at most a step wrong, a weight half a step.
            let (step_of_a, step_of_b) = (2.0 / 127.0, 1.0 / 127.0);
            for (at, found) in out.iter().enumerate() {
                let (row, column) = (at / columns, at % columns);
                let (x, y) = (&a[row * depth..][..depth], &b[column * depth..][..depth]);
                let (mut exact, mut bound) = (bias[column] + residual[at], 1e-4);
                for (x, y) in x.iter().zip(y) {
                    exact += x * y;
                    bound += step_of_a * (y.abs() + step_of_b) + step_of_b / 2.0 * x.abs();
                }
                assert!((exact - found).abs() <= bound, "{count} × {depth} × {columns}: {found}, not {exact}");
            }
        }
    }

    #[test]
    fn activations_keep_their_value_within_half_a_step_and_zero_is_exact() {
        for seed in 0..200 {
            let mut row = random(seed, 77);
            row[3] = 0.0;
            let offset = if seed % 3 == 0 { 0.0 } else { (seed % 7) as f32 - 3.0 };
            row.iter_mut().skip(4).for_each(|value| *value = *value * 5.0 + offset);
            let mut quantised = Quantised::default();
            quantised.take(rows(&row, 1, row.len()), row.len());
            let RowScale { scale, zero } = quantised.scales[0];
            let bytes = quantised.values.as_flattened();
            assert_eq!(i32::from(bytes[3]), zero);
            for (value, byte) in row.iter().zip(bytes) {
                assert!(*byte <= LARGEST);
                let back = scale * (i32::from(*byte) - zero) as f32;
                // An end may be cut by another half.
                let inner = (1..LARGEST).contains(byte);
                let bound = scale * if inner { 0.501 } else { 1.001 };
                assert!((back - value).abs() <= bound, "{value} became {back}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_and_other_rows_are_untouched() {
        let (depth, columns) = (70, 20);
        let weight = random(1, columns * depth);
        let packed = PackedInt8::transposed(&weight, columns, depth, depth);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 31, 69] {
                let mut a = random(2, 3 * depth);
                a[depth + place] = value;
                let mut out = vec![0.0; 3 * columns];
                product(rows(&a, 3, depth), &packed, Finish::default(), &mut out, columns);
                let finite: Vec<bool> = out.chunks(columns).map(|row| row.iter().all(|x| x.is_finite())).collect();
                assert_eq!(finite, [true, false, true], "{value} at {place}");
                assert!(out[columns..2 * columns].iter().all(|x| x.is_nan()));
            }
        }
    }

    #[test]
    fn rows_and_columns_of_zeros_and_no_depth_give_the_bias() {
        let bias = random(3, 5);
        let finish = Finish { bias: Some(&bias), ..Finish::default() };
        for (a, b, depth) in [(vec![0.0; 8], random(1, 20), 4), (random(1, 8), vec![0.0; 20], 4), (vec![], vec![], 0)] {
            let packed = PackedInt8::transposed(&b, 5, depth, depth);
            let mut out = vec![f32::NAN; 10];
            product(rows(&a, 2, depth), &packed, finish, &mut out, 5);
            assert_eq!(out, [&bias[..], &bias[..]].concat());
        }
    }

    #[test]
    fn rows_apart_are_read_and_written_apart() {
        let (depth, columns) = (10, 7);
        let (a, weight) = (random(1, 3 * 15), random(2, columns * depth));
        let packed = PackedInt8::transposed(&weight, columns, depth, depth);
        let mut apart = vec![-9.0; 3 * 11];
        product(rows(&a, 3, 15), &packed, Finish::default(), &mut apart, 11);
        for row in 0..3 {
            let mut alone = vec![0.0; columns];
            product(rows(&a[row * 15..][..depth], 1, depth), &packed, Finish::default(), &mut alone, columns);
            assert_eq!(apart[row * 11..][..columns], alone);
            assert!(apart[row * 11..].iter().take(11).skip(columns).all(|x| (*x + 9.0).abs() < f32::EPSILON));
        }
    }
}
