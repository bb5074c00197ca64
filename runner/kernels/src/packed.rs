//! A matrix as the products read it: in panels, packed once.

use aligned_vec::{AVec, ConstAlign};
use pulp::{Simd, WithSimd};

use crate::{
    arch,
    prefetch::{LINE, prefetch},
};

/// Rows that are asked for ahead of the one that is packed: rows of a head lie a page apart, which the processor does
/// not foresee.
const AHEAD: usize = 8;

/// Vectors of a register tile's row: all that fit the registers beside one of the other operands.
pub(crate) const fn tile_vectors(registers: usize) -> usize {
    if registers >= 32 { 4 } else { 2 }
}

/// The width of a panel on this processor, in columns.
fn panel_width() -> usize {
    struct Width;
    impl WithSimd for Width {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            tile_vectors(S::REGISTER_COUNT) * S::F32_LANES
        }
    }
    arch().dispatch(Width)
}

/// A matrix, depth × columns, in panels.
#[derive(Clone, Debug)]
pub struct Packed {
    columns: usize,
    depth: usize,
    width: usize,
    /// At the beginning of a cache line, so that no vector lies in two.
    panels: AVec<f32, ConstAlign<LINE>>,
}

impl Default for Packed {
    fn default() -> Self {
        Self { columns: 0, depth: 0, width: 0, panels: AVec::new(LINE) }
    }
}

impl Packed {
    /// Packs the transpose of `rows` (columns × depth), as a linear layer stores its weight. Between the starts of two
    /// rows are `stride` values.
    pub fn transposed(rows: &[f32], columns: usize, depth: usize, stride: usize) -> Self {
        let mut packed = Self::default();
        packed.pack_transposed(rows, columns, depth, stride);
        packed
    }

    /// Like [`Packed::transposed`], into the memory that is there.
    pub fn pack_transposed(&mut self, rows: &[f32], columns: usize, depth: usize, stride: usize) {
        self.reset(columns, depth);
        let width = self.width;
        for (panel, first) in self.panels.chunks_exact_mut(depth.max(1) * width).zip((0..columns).step_by(width)) {
            let count = width.min(columns - first);
            let rows = &rows[first * stride..];
            let done = transpose::blocks(rows, count, depth, stride, panel, width);
            let left = if done.depth < depth { 0 } else { done.rows };
            for column in left..count {
                let from = if column < done.rows { done.depth } else { 0 };
                let row = &rows[column * stride..][from..depth];
                for (value, place) in row.iter().zip(panel.chunks_exact_mut(width).skip(from)) {
                    place[column] = *value;
                }
            }
        }
    }

    /// Packs `rows` (depth × columns); between the starts of two rows are `stride` values.
    pub fn pack(&mut self, rows: &[f32], columns: usize, depth: usize, stride: usize) {
        self.reset(columns, depth);
        arch().dispatch(Copy { rows, columns, depth, stride, panels: &mut self.panels });
    }

    /// Counts the zeros behind the last column as columns, so that products write whole panels.
    pub fn widen(&mut self) {
        self.columns = self.columns.next_multiple_of(self.width);
    }

    /// Makes room. What lies there is of before, but for zeros where a panel is wider than its columns.
    fn reset(&mut self, columns: usize, depth: usize) {
        self.width = panel_width();
        (self.columns, self.depth) = (columns, depth);
        self.panels.resize(columns.div_ceil(self.width) * depth * self.width, 0.0);
        if !columns.is_multiple_of(self.width) {
            let last = columns / self.width * depth * self.width;
            self.panels[last..].fill(0.0);
        }
    }

    /// The columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The depth, the length of the sums.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The columns of a panel.
    #[inline(always)]
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// A part of the depth of a panel.
    #[inline(always)]
    pub(crate) fn panel(&self, panel: usize, from: usize, depth: usize) -> &[f32] {
        &self.panels[(panel * self.depth + from) * self.width..][..depth * self.width]
    }

    /// All panels.
    #[inline(always)]
    pub(crate) fn panels(&self) -> impl Iterator<Item = &[f32]> {
        self.panels.chunks_exact(self.depth.max(1) * self.width)
    }
}

/// Copies rows into panels, each row once.
struct Copy<'a> {
    rows: &'a [f32],
    columns: usize,
    depth: usize,
    stride: usize,
    panels: &'a mut [f32],
}

impl WithSimd for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { rows, columns, depth, stride, panels } = self;
        let width = tile_vectors(S::REGISTER_COUNT) * S::F32_LANES;
        for index in 0..depth {
            if index + AHEAD < depth {
                prefetch(&rows[(index + AHEAD) * stride..][..columns]);
            }
            let row = &rows[index * stride..][..columns];
            for (panel, values) in row.chunks(width).enumerate() {
                let place = &mut panels[(panel * depth + index) * width..][..values.len()];
                let (values, rest) = S::as_simd_f32s(values);
                let (places, rest_places) = S::as_mut_simd_f32s(place);
                for (place, value) in places.iter_mut().zip(values) {
                    *place = *value;
                }
                for (place, value) in rest_places.iter_mut().zip(rest) {
                    *place = *value;
                }
            }
        }
    }
}

/// Transposing in registers.
mod transpose {
    /// How much of a matrix is done, from its first row and value on.
    #[derive(Clone, Copy, Debug, Default)]
    pub(super) struct Done {
        pub(super) rows: usize,
        pub(super) depth: usize,
    }

    /// Writes value `d` of row `r` to `out[d * width + r]`, for as many whole blocks of `rows` (`count` × `depth`,
    /// `stride` values apart) as this processor has instructions for.
    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn blocks(_: &[f32], _: usize, _: usize, _: usize, _: &mut [f32], _: usize) -> Done {
        Done::default()
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) use x86::blocks;

    #[cfg(target_arch = "x86_64")]
    mod x86 {
        use pulp::{NullaryFnOnce, cast, f32x8, x86::V3};

        use super::{super::AHEAD, Done};
        use crate::{
            math::{load, store},
            prefetch::prefetch,
        };

        /// The lanes of a vector, the rows and columns of a block.
        const SIDE: usize = 8;

        pub(in crate::packed) fn blocks(
            rows: &[f32],
            count: usize,
            depth: usize,
            stride: usize,
            out: &mut [f32],
            width: usize,
        ) -> Done {
            let Some(simd) = V3::try_new() else { return Done::default() };
            let done = Done { rows: count / SIDE * SIDE, depth: depth / SIDE * SIDE };
            simd.vectorize(Blocks { simd, rows, done, stride, out, width });
            done
        }

        struct Blocks<'a> {
            simd: V3,
            rows: &'a [f32],
            done: Done,
            stride: usize,
            out: &'a mut [f32],
            width: usize,
        }

        impl NullaryFnOnce for Blocks<'_> {
            type Output = ();

            #[inline(always)]
            fn call(self) {
                let Self { simd, rows, done, stride, out, width } = self;
                for first in (0..done.rows).step_by(SIDE) {
                    for ahead in first + AHEAD..first + AHEAD + SIDE {
                        if let Some(row) = rows.get(ahead * stride..ahead * stride + done.depth) {
                            prefetch(row);
                        }
                    }
                    for from in (0..done.depth).step_by(SIDE) {
                        let mut block = [simd.splat_f32x8(0.0); SIDE];
                        for row in 0..SIDE {
                            block[row] = load(simd, &rows[(first + row) * stride + from..][..SIDE]);
                        }
                        let block = transposed(simd, block);
                        for step in 0..SIDE {
                            store(simd, &mut out[(from + step) * width + first..][..SIDE], block[step]);
                        }
                    }
                }
            }
        }

        /// Pairs of rows are interleaved, then pairs of pairs, and at last halves of vectors exchanged.
        #[inline(always)]
        fn transposed(simd: V3, rows: [f32x8; SIDE]) -> [f32x8; SIDE] {
            let avx = simd.avx;
            // Of four rows the same two values each, by which half of the block they are in.
            let mut fours = [[simd.splat_f32x8(0.0); SIDE / 2]; 2];
            for half in 0..2 {
                let row = 4 * half;
                let low = (
                    avx._mm256_unpacklo_ps(cast(rows[row]), cast(rows[row + 1])),
                    avx._mm256_unpacklo_ps(cast(rows[row + 2]), cast(rows[row + 3])),
                );
                let high = (
                    avx._mm256_unpackhi_ps(cast(rows[row]), cast(rows[row + 1])),
                    avx._mm256_unpackhi_ps(cast(rows[row + 2]), cast(rows[row + 3])),
                );
                fours[half] = [
                    cast(avx._mm256_shuffle_ps::<0x44>(low.0, low.1)),
                    cast(avx._mm256_shuffle_ps::<0xEE>(low.0, low.1)),
                    cast(avx._mm256_shuffle_ps::<0x44>(high.0, high.1)),
                    cast(avx._mm256_shuffle_ps::<0xEE>(high.0, high.1)),
                ];
            }
            let mut columns = rows;
            for column in 0..SIDE / 2 {
                let (upper, lower) = (cast(fours[0][column]), cast(fours[1][column]));
                columns[column] = cast(avx._mm256_permute2f128_ps::<0x20>(upper, lower));
                columns[column + SIDE / 2] = cast(avx._mm256_permute2f128_ps::<0x31>(upper, lower));
            }
            columns
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value at a step of depth and a column, or in the padding.
    fn at(packed: &Packed, step: usize, column: usize) -> f32 {
        packed.panel(column / packed.width(), step, 1)[column % packed.width()]
    }

    fn check(packed: &Packed, (columns, depth): (usize, usize), expected: impl Fn(usize, usize) -> f32) {
        for step in 0..depth {
            for column in 0..columns.next_multiple_of(packed.width()) {
                let expected = if column < columns { expected(step, column) } else { 0.0 };
                assert_eq!(
                    at(packed, step, column).to_bits(),
                    expected.to_bits(),
                    "step {step}, column {column} of {columns} × {depth}"
                );
            }
        }
    }

    #[test]
    fn every_value_has_its_place_and_padding_is_zero_whatever_was_there_before() {
        let mut packed = Packed::default();
        // Larger and smaller in turn, so that values of before lie where there is padding.
        for columns in [190, 1, 65, 7, 64, 8, 17, 9, 16, 15] {
            for depth in [33, 1, 32, 7, 16, 8, 9] {
                let (wide, tall) = (columns.max(depth) + 3, columns.max(depth));
                let values: Vec<f32> = (1..=wide * tall).map(|value| value as f32).collect();
                packed.pack_transposed(&values[..wide * (columns - 1) + depth], columns, depth, wide);
                check(&packed, (columns, depth), |step, column| values[column * wide + step]);
                packed.pack(&values[..wide * (depth - 1) + columns], columns, depth, wide);
                check(&packed, (columns, depth), |step, column| values[step * wide + column]);
            }
        }
    }

    #[test]
    fn a_widened_matrix_has_whole_panels() {
        let mut packed = Packed::transposed(&[1.0, 2.0, 3.0], 3, 1, 1);
        packed.widen();
        assert_eq!(packed.columns(), panel_width());
        packed.widen();
        assert_eq!(packed.columns(), panel_width());
    }

    #[test]
    fn no_columns_and_no_depth_are_no_panels() {
        for (columns, depth) in [(0, 4), (4, 0), (0, 0)] {
            assert_eq!(Packed::transposed(&[], columns, depth, depth).panels().count(), 0);
        }
    }
}
