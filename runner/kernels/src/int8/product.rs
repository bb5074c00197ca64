//! The product of rows of activations, quantized on the way, with a packed 8-bit matrix.

use pulp::bytemuck;

use super::{
    dot::{Dot, GROUP, Portable, lanes},
    instructions::Instructions,
    packed::PackedInt8,
    quantize::QuantizedRows,
    tile::{SizedTile, TILE_ROWS, Tile},
};
use crate::{
    math::ActivateRows,
    matmul::{BLOCK_ROWS, Epilogue, Rows},
    prefetch::{LINE, prefetch},
    simd::arch,
};

/// `out` = epilogue(`a` ⋅ `b`), `a` quantized on the way. Rows of `out` are `out_stride` values apart, which is at least
/// the columns of `b`. A row of `a` with a value that is not finite gives a row of NaN.
pub fn product(a: Rows<'_>, b: &PackedInt8, epilogue: Epilogue<'_>, out: &mut [f32], out_stride: usize) {
    let product = Product { a, b, epilogue, out, out_stride };
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
    epilogue: Epilogue<'a>,
    out: &'a mut [f32],
    out_stride: usize,
}

impl Product<'_> {
    fn run<D: Dot, const V: usize>(self, dot: D) {
        let Self { a, b, epilogue, out, out_stride } = self;
        let groups = b.depth.div_ceil(GROUP);
        let width = V * lanes::<D>();
        let panel_bytes = groups * GROUP * width;
        let mut quantized = QuantizedRows::default();
        for first_row in (0..a.count).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(a.count - first_row);
            quantized.fill(Rows { values: &a.values[first_row * a.stride..], count: rows, ..a }, b.depth);
            for first_column in (0..b.columns).step_by(width) {
                let columns = width.min(b.columns - first_column);
                let panel = |first_column: usize| &b.panels[first_column / width * panel_bytes..][..panel_bytes];
                // Every tile prefetches a part of the next panel, which is then in the cache in time.
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
                        a: &quantized.values[row * groups..],
                        groups,
                        row_scales: &quantized.scales[row..],
                        panel,
                        column_scales: &b.scales[first_column..][..columns],
                        column_sums: &b.sums[first_column..][..columns],
                        out: &mut out[place(row)..],
                        out_stride,
                        bias: epilogue.bias.map(|bias| &bias[first_column..]),
                        residual: epilogue
                            .residual
                            .map(|residual| (&residual[(first_row + row) * b.columns + first_column..], b.columns)),
                    };
                    match height {
                        1 => dot.vectorize(SizedTile::<D, 1, V>(tile)),
                        2 => dot.vectorize(SizedTile::<D, 2, V>(tile)),
                        3 => dot.vectorize(SizedTile::<D, 3, V>(tile)),
                        4 => dot.vectorize(SizedTile::<D, 4, V>(tile)),
                        _ => dot.vectorize(SizedTile::<D, TILE_ROWS, V>(tile)),
                    }
                }
                if let Some(activation) = epilogue.activation {
                    let out = &mut out[first_row * out_stride + first_column..];
                    arch().dispatch(ActivateRows { activation, values: out, stride: out_stride, rows, columns });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Activation, random::random};

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

    fn rows(values: &[f32], count: usize, stride: usize) -> Rows<'_> {
        Rows { values, count, stride }
    }

    #[test]
    fn the_sums_of_integers_are_exact_with_every_instruction_set() {
        for (count, depth, columns) in SHAPES {
            // Each row spans 0..=127 and each column reaches 127, so that the integers are what they are quantized to.
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
                product(rows(&a, count, depth), &packed, Epilogue::default(), &mut out, columns);
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
    fn every_instruction_set_gives_the_same_as_the_portable_form() {
        for (count, depth, columns) in SHAPES {
            let (a, b) = (random(1, count * depth), random(2, columns * depth));
            let (bias, residual) = (random(3, columns), random(4, count * columns));
            for activation in [None, Some(Activation::Gelu), Some(Activation::Relu)] {
                let computed = |instructions| {
                    let packed = PackedInt8::transposed_for(instructions, &b, columns, depth, depth);
                    let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), activation };
                    let mut out = vec![f32::NAN; count * columns];
                    product(rows(&a, count, depth), &packed, epilogue, &mut out, columns);
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
    fn the_product_is_exact_up_to_the_quantization_steps() {
        for (count, depth, columns) in SHAPES {
            let (a, b) = (random(5, count * depth), random(6, columns * depth));
            let (bias, residual) = (random(7, columns), random(8, count * columns));
            let packed = PackedInt8::transposed(&b, columns, depth, depth);
            let epilogue = Epilogue { bias: Some(&bias), residual: Some(&residual), activation: None };
            let mut out = vec![f32::NAN; count * columns];
            product(rows(&a, count, depth), &packed, epilogue, &mut out, columns);
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
    fn a_value_that_is_not_finite_spoils_its_own_row_only() {
        let (depth, columns) = (70, 20);
        let weight = random(1, columns * depth);
        let packed = PackedInt8::transposed(&weight, columns, depth, depth);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 31, 69] {
                let mut a = random(2, 3 * depth);
                a[depth + place] = value;
                let mut out = vec![0.0; 3 * columns];
                product(rows(&a, 3, depth), &packed, Epilogue::default(), &mut out, columns);
                let finite: Vec<bool> = out.chunks(columns).map(|row| row.iter().all(|x| x.is_finite())).collect();
                assert_eq!(finite, [true, false, true], "{value} at {place}");
                assert!(out[columns..2 * columns].iter().all(|x| x.is_nan()));
            }
        }
    }

    #[test]
    fn zero_rows_zero_columns_and_zero_depth_give_the_bias() {
        let bias = random(3, 5);
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        for (a, b, depth) in [(vec![0.0; 8], random(1, 20), 4), (random(1, 8), vec![0.0; 20], 4), (vec![], vec![], 0)] {
            let packed = PackedInt8::transposed(&b, 5, depth, depth);
            let mut out = vec![f32::NAN; 10];
            product(rows(&a, 2, depth), &packed, epilogue, &mut out, 5);
            assert_eq!(out, [&bias[..], &bias[..]].concat());
        }
    }

    #[test]
    fn strided_rows_are_read_and_written_in_place() {
        let (depth, columns) = (10, 7);
        let (a, weight) = (random(1, 3 * 15), random(2, columns * depth));
        let packed = PackedInt8::transposed(&weight, columns, depth, depth);
        let mut apart = vec![-9.0; 3 * 11];
        product(rows(&a, 3, 15), &packed, Epilogue::default(), &mut apart, 11);
        for row in 0..3 {
            let mut alone = vec![0.0; columns];
            product(rows(&a[row * 15..][..depth], 1, depth), &packed, Epilogue::default(), &mut alone, columns);
            assert_eq!(apart[row * 11..][..columns], alone);
            assert!(apart[row * 11..].iter().take(11).skip(columns).all(|x| (*x + 9.0).abs() < f32::EPSILON));
        }
    }
}
