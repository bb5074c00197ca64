//! Transposes blocks of a matrix in registers.

/// The part of a matrix that was transposed: the first `depth` values of the first `rows` rows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Transposed {
    pub(super) rows: usize,
    pub(super) depth: usize,
}

/// Writes value `d` of row `r` to `out[d * width + r]`, for all whole blocks of `rows` (`count` × `depth`, `stride`
/// values apart). Transposes nothing on a processor without the instructions.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn blocks(_: &[f32], _: usize, _: usize, _: usize, _: &mut [f32], _: usize) -> Transposed {
    Transposed::default()
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::blocks;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use pulp::{NullaryFnOnce, cast, f32x8, x86::V3};

    use crate::{
        form::Form,
        matmul::transpose::Transposed,
        prefetch::{ROWS_AHEAD, prefetch},
        simd::{load, store},
    };

    /// The lanes of a vector, and the rows and columns of a block.
    const SIDE: usize = 8;

    pub(in super::super) fn blocks(
        rows: &[f32],
        count: usize,
        depth: usize,
        stride: usize,
        out: &mut [f32],
        width: usize,
    ) -> Transposed {
        let Some(simd) = V3::try_new().filter(|_| Form::of_process() != Form::Portable) else {
            return Transposed::default();
        };
        let done = Transposed { rows: count / SIDE * SIDE, depth: depth / SIDE * SIDE };
        simd.vectorize(Blocks { simd, rows, done, stride, out, width });
        done
    }

    struct Blocks<'a> {
        simd: V3,
        rows: &'a [f32],
        done: Transposed,
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
                for ahead in first + ROWS_AHEAD..first + ROWS_AHEAD + SIDE {
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

    /// Interleaves pairs of rows, then pairs of pairs, and exchanges halves of vectors last.
    #[inline(always)]
    fn transposed(simd: V3, rows: [f32x8; SIDE]) -> [f32x8; SIDE] {
        let avx = simd.avx;
        // By half of the block: vectors with the same two values of each of four rows.
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
