//! Softmax attention of one sequence, without padding and without a mask in memory.
//!
//! Per head the keys and the values are packed once; then a block of queries at a time: scores = Q⋅Kᵀ for the keys that
//! the block may see, their exponentials, scaled, for each row over those keys alone, exponentials ⋅ V, and each row
//! divided by the sum of its exponentials, which is shorter than the row of scores. The scores of a block are all that is
//! ever held of the matrix of scores.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{
    arch,
    math::{exp, largest, map, zip},
    matmul::{Finish, Packed, Part, Rows, TILE_ROWS, product_with_part},
};

/// Bytes that the scores of a block of queries take at most, unless one tile of rows takes more.
const SCORES: usize = 64 * 1024;
/// Rows of the largest block.
const MOST_ROWS: usize = 8 * TILE_ROWS;

/// Queries, keys and values of one head of one sequence; rows are `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// From the first query on.
    pub queries: &'a [f32],
    /// Values between the starts of two rows.
    pub stride: usize,
    /// Added to the score of query `i` and key `j`: the value at `centre + j - i`.
    pub bias: Option<Bias<'a>>,
}

/// What a head adds to scores by the distance of key and query.
#[derive(Clone, Copy, Debug)]
pub struct Bias<'a> {
    /// A value per distance.
    pub by_distance: &'a [f32],
    /// The index of distance 0.
    pub centre: usize,
}

/// Memory that is used again for every head.
#[derive(Debug)]
pub struct Scratch {
    keys: Packed,
    values: Packed,
    scores: Vec<f32>,
    /// Multiplied with the scores.
    scale: f32,
    /// Of every row of the block, one by the sum of its exponentials.
    inverses: [f32; MOST_ROWS],
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            keys: Packed::default(),
            values: Packed::default(),
            scores: Vec::new(),
            scale: 1.0,
            inverses: [0.0; MOST_ROWS],
        }
    }
}

/// Keys and values of one head of one sequence; rows are `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct KeysAndValues<'a> {
    /// From the first key on.
    pub keys: &'a [f32],
    /// From the first value on.
    pub values: &'a [f32],
    /// Tokens of the sequence.
    pub length: usize,
    /// The width of the head.
    pub width: usize,
    /// Values between the starts of two rows.
    pub stride: usize,
    /// Multiplied with the scores; more than 0.
    pub scale: f32,
}

impl Scratch {
    /// Takes the keys and values of one head of one sequence.
    pub fn take(&mut self, of: KeysAndValues<'_>) {
        let KeysAndValues { keys, values, length, width, stride, scale } = of;
        self.keys.pack_transposed(keys, length, width, stride);
        self.keys.widen();
        self.values.pack(values, width, length, stride);
        self.scale = scale;
    }

    /// The contexts of the `queries` of the sequence, given by position; row N of `out` (rows `out_stride` apart) is
    /// that of query N. `sees` says which keys a query sees: at least one, and a later query none before those that an
    /// earlier one sees.
    pub fn attend(
        &mut self,
        head: Head<'_>,
        queries: Range<usize>,
        sees: impl Fn(usize) -> Range<usize>,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let wide = self.keys.columns();
        let rows = (SCORES / 4 / wide.max(1)).clamp(TILE_ROWS, MOST_ROWS) / TILE_ROWS * TILE_ROWS;
        for first in queries.clone().step_by(rows) {
            let block = first..queries.end.min(first + rows);
            let in_sight = sees(block.start).start..sees(block.end - 1).end;
            // What is in sight is written before it is read.
            self.scores.resize(self.scores.len().max(block.len() * wide), 0.0);
            let of_block = Rows {
                values: &head.queries[(first - queries.start) * head.stride..],
                count: block.len(),
                stride: head.stride,
            };
            let columns = Part { columns: in_sight.clone(), depth: 0..self.keys.depth() };
            product_with_part(of_block, &self.keys, columns, Finish::default(), &mut self.scores, wide);
            let rows = block.clone().zip(self.scores.chunks_exact_mut(wide)).zip(&mut self.inverses);
            for ((query, scores), inverse) in rows {
                let keys = sees(query);
                // Keys that other queries of the block see.
                scores[in_sight.start..keys.start].fill(0.0);
                scores[keys.end..in_sight.end].fill(0.0);
                let bias = head.bias.map(|bias| &bias.by_distance[bias.centre + keys.start - query..][..keys.len()]);
                *inverse = 1.0 / arch().dispatch(Exponentials { row: &mut scores[keys], scale: self.scale, bias });
            }
            let weights = Rows { values: &self.scores[in_sight.start..], count: block.len(), stride: wide };
            let width = self.values.columns();
            let depth = Part { columns: 0..width, depth: in_sight };
            let place = &mut out[(first - queries.start) * out_stride..];
            product_with_part(weights, &self.values, depth, Finish::default(), place, out_stride);
            let inverses = &self.inverses[..block.len()];
            arch().dispatch(ScaleRows { rows: place, stride: out_stride, width, factors: inverses });
        }
    }
}

/// The exponentials of row ⋅ scale + bias, relative to that of the largest, in place; the answer is their sum.
struct Exponentials<'a> {
    row: &'a mut [f32],
    /// More than 0.
    scale: f32,
    bias: Option<&'a [f32]>,
}

impl WithSimd for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Self { row, scale, bias } = self;
        let mut scale = simd.splat_f32s(scale);
        if let Some(bias) = bias {
            zip(
                simd,
                row,
                bias,
                #[inline(always)]
                |x, bias| simd.mul_add_f32s(x, scale, bias),
            );
            scale = simd.splat_f32s(1.0);
        }
        let less = simd.neg_f32s(simd.mul_f32s(simd.splat_f32s(largest(simd, row)), scale));
        let (head, tail) = S::as_mut_simd_f32s(row);
        let mut sum = simd.splat_f32s(0.0);
        for value in head.iter_mut() {
            *value = exp(simd, simd.mul_add_f32s(*value, scale, less));
            sum = simd.add_f32s(sum, *value);
        }
        map(
            simd,
            tail,
            #[inline(always)]
            |x| exp(simd, simd.mul_add_f32s(x, scale, less)),
        );
        simd.reduce_sum_f32s(sum) + tail.iter().sum::<f32>()
    }
}

/// Multiplies the first `width` values of each row with a factor of its own.
struct ScaleRows<'a> {
    rows: &'a mut [f32],
    stride: usize,
    width: usize,
    factors: &'a [f32],
}

impl WithSimd for ScaleRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (row, factor) in self.rows.chunks_mut(self.stride).zip(self.factors) {
            let factor = simd.splat_f32s(*factor);
            map(
                simd,
                &mut row[..self.width],
                #[inline(always)]
                |x| simd.mul_f32s(x, factor),
            );
        }
    }
}
