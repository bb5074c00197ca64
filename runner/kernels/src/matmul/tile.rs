//! The innermost loop of every product: a tile of rows times one panel, summed up in registers.

use pulp::Simd;

/// Steps of depth that the innermost loop takes at a time.
const STEPS: usize = 4;

/// Adds the products of `M` rows with a panel to `sums`, which stay in registers.
#[inline(always)]
pub(super) fn add_products<S: Simd, const M: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; M],
    a: &[f32],
    a_stride: usize,
    panel: &[S::f32s],
) {
    let (steps, _) = panel.as_chunks::<V>();
    // Several steps at a time: a loop over single steps spends as much on counting as on loading.
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
