//! The innermost loops: a tile of quantized rows times one panel, summed up in registers, and scaled to f32.

use pulp::{NullaryFnOnce, bytemuck};

use super::{
    dot::{Dot, GROUP, lanes},
    quantize::RowScale,
};

/// Rows of a register tile. AVX2 has no registers left for the operands of a sixth row.
pub(super) const TILE_ROWS: usize = 5;
/// Groups that the innermost loop takes at a time.
const STEPS: usize = 2;

/// One register tile.
pub(super) struct Tile<'a, D: Dot> {
    pub(super) dot: D,
    /// Quantized rows.
    pub(super) a: &'a [[u8; GROUP]],
    /// Groups per row.
    pub(super) groups: usize,
    pub(super) row_scales: &'a [RowScale],
    pub(super) panel: &'a [D::Weights],
    pub(super) column_scales: &'a [f32],
    pub(super) column_sums: &'a [i32],
    pub(super) out: &'a mut [f32],
    pub(super) out_stride: usize,
    pub(super) bias: Option<&'a [f32]>,
    /// The residual and its stride.
    pub(super) residual: Option<(&'a [f32], usize)>,
}

/// A tile of `M` rows and `V` vectors.
pub(super) struct SizedTile<'a, D: Dot, const M: usize, const V: usize>(pub(super) Tile<'a, D>);

impl<D: Dot, const M: usize, const V: usize> NullaryFnOnce for SizedTile<'_, D, M, V> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let width = V * lanes::<D>();
        let sums = sums::<D, M, V>(self.0.dot, self.0.a, self.0.groups, self.0.panel);
        // With a constant width the loops over the columns are unrolled.
        if self.0.column_sums.len() == width {
            self.0.write(&sums, width);
        } else {
            let columns = self.0.column_sums.len();
            self.0.write(&sums, columns);
        }
    }
}

impl<D: Dot> Tile<'_, D> {
    /// Scales the sums, applies bias and residual, and writes the first `columns` of each row.
    #[inline(always)]
    fn write<const M: usize, const V: usize>(self, sums: &[[D::Sums; V]; M], columns: usize) {
        let (column_scales, column_sums) = (&self.column_scales[..columns], &self.column_sums[..columns]);
        for row in 0..M {
            let sums = &bytemuck::cast_slice::<D::Sums, i32>(&sums[row])[..columns];
            let RowScale { scale, zero_point } = self.row_scales[row];
            let out = &mut self.out[row * self.out_stride..][..columns];
            for column in 0..columns {
                let sum = sums[column] - zero_point * column_sums[column];
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

/// The sums of the products of `M` rows with a panel, kept in registers during the loop.
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
