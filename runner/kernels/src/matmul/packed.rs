//! A matrix in the layout that the products read: panels of columns.

use aligned_vec::{AVec, ConstAlign};
use pulp::{Simd, WithSimd};

use super::{
    blocking::{panel_width, tile_vectors},
    transpose,
};
use crate::{
    prefetch::{LINE, ROWS_AHEAD, prefetch},
    simd::arch,
};

/// A matrix, depth × columns, in panels.
#[derive(Clone, Debug)]
pub struct Packed {
    columns: usize,
    depth: usize,
    width: usize,
    /// Aligned to cache lines, so that no vector crosses one.
    panels: AVec<f32, ConstAlign<LINE>>,
}

impl Default for Packed {
    fn default() -> Self {
        Self { columns: 0, depth: 0, width: 0, panels: AVec::new(LINE) }
    }
}

impl Packed {
    /// Packs the transpose of `rows` (columns × depth), as a linear layer stores its weight. The starts of two rows are
    /// `stride` values apart.
    pub fn transposed(rows: &[f32], columns: usize, depth: usize, stride: usize) -> Self {
        let mut packed = Self::default();
        packed.pack_transposed(rows, columns, depth, stride);
        packed
    }

    /// Same as [`Packed::transposed`], into the memory of `self`.
    pub fn pack_transposed(&mut self, rows: &[f32], columns: usize, depth: usize, stride: usize) {
        self.reset(columns, depth);
        let width = self.width;
        for (panel, first) in self.panels.chunks_exact_mut(depth.max(1) * width).zip((0..columns).step_by(width)) {
            let count = width.min(columns - first);
            let rows = &rows[first * stride..];
            let transposed = transpose::blocks(rows, count, depth, stride, panel, width);
            let first_left = if transposed.depth < depth { 0 } else { transposed.rows };
            for column in first_left..count {
                let from = if column < transposed.rows { transposed.depth } else { 0 };
                let row = &rows[column * stride..][from..depth];
                for (value, place) in row.iter().zip(panel.chunks_exact_mut(width).skip(from)) {
                    place[column] = *value;
                }
            }
        }
    }

    /// Packs `rows` (depth × columns). The starts of two rows are `stride` values apart.
    pub fn pack(&mut self, rows: &[f32], columns: usize, depth: usize, stride: usize) {
        self.reset(columns, depth);
        arch().dispatch(Copy { rows, columns, depth, stride, panels: &mut self.panels });
    }

    /// Counts the padding behind the last column as columns, so that products write whole panels.
    pub fn widen(&mut self) {
        self.columns = self.columns.next_multiple_of(self.width);
    }

    /// Resizes the panels. Old values stay in them, apart from zeros in the last panel if it has padding.
    fn reset(&mut self, columns: usize, depth: usize) {
        self.width = panel_width();
        (self.columns, self.depth) = (columns, depth);
        self.panels.resize(columns.div_ceil(self.width) * depth * self.width, 0.0);
        if !columns.is_multiple_of(self.width) {
            let last = columns / self.width * depth * self.width;
            self.panels[last..].fill(0.0);
        }
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The depth, the length of the sums.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The width of a panel, in columns.
    #[inline(always)]
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// `depth` steps of a panel, from the step `from` on.
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
            if index + ROWS_AHEAD < depth {
                prefetch(&rows[(index + ROWS_AHEAD) * stride..][..columns]);
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
    fn every_value_is_in_its_place_and_padding_is_zero_when_memory_is_reused() {
        let mut packed = Packed::default();
        // Larger and smaller in turn, so that old values lie where the padding is.
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
        let mut packed = Packed::transposed(&[1.0], 1, 1, 1);
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
