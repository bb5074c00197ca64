//! Softmax attention of one sequence, without padding and without a mask in memory.
//!
//! Per head the keys and values are packed once; then a block of queries at a time: scores = Q⋅Kᵀ for the keys that the
//! block may see, softmax of each row over those keys alone, weights ⋅ V. The scores of a block are all that is ever
//! held of the matrix of scores.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{
    arch,
    math::{exp, largest, map, zip},
    matmul::{Packed, Part, Rows, TILE_ROWS, product_with_part},
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
    /// Multiplied with the scores.
    pub scale: f32,
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
#[derive(Debug, Default)]
pub struct Scratch {
    keys: Packed,
    values: Packed,
    scores: Vec<f32>,
}

impl Scratch {
    /// Takes the `keys` and `values` of one head of one sequence of `length` tokens; rows are `stride` values apart.
    pub fn take(&mut self, keys: &[f32], values: &[f32], length: usize, width: usize, stride: usize) {
        self.keys.pack_transposed(keys, length, width, stride);
        self.values.pack(values, width, length, stride);
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
        let length = self.keys.columns();
        let rows = (SCORES / 4 / length.max(1)).clamp(TILE_ROWS, MOST_ROWS) / TILE_ROWS * TILE_ROWS;
        for first in queries.clone().step_by(rows) {
            let block = first..queries.end.min(first + rows);
            let in_sight = sees(block.start).start..sees(block.end - 1).end;
            self.scores.resize(block.len() * length, 0.0);
            let of_block = Rows {
                values: &head.queries[(first - queries.start) * head.stride..],
                count: block.len(),
                stride: head.stride,
            };
            let columns = Part { columns: in_sight.clone(), depth: 0..self.keys.depth() };
            product_with_part(of_block, &self.keys, columns, &mut self.scores, length);
            for (query, scores) in block.clone().zip(self.scores.chunks_exact_mut(length)) {
                let keys = sees(query);
                // Keys that other queries of the block see.
                scores[in_sight.start..keys.start].fill(0.0);
                scores[keys.end..in_sight.end].fill(0.0);
                let bias = head.bias.map(|bias| &bias.by_distance[bias.centre + keys.start - query..][..keys.len()]);
                arch().dispatch(Softmax { row: &mut scores[keys], scale: head.scale, bias });
            }
            let weights = Rows { values: &self.scores[in_sight.start..], count: block.len(), stride: length };
            let depth = Part { columns: 0..self.values.columns(), depth: in_sight };
            let place = &mut out[(first - queries.start) * out_stride..];
            product_with_part(weights, &self.values, depth, place, out_stride);
        }
    }
}

/// Softmax of scale ⋅ row + bias, in place.
struct Softmax<'a> {
    row: &'a mut [f32],
    scale: f32,
    bias: Option<&'a [f32]>,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { row, scale, bias } = self;
        let scale = simd.splat_f32s(scale);
        match bias {
            None => map(
                simd,
                row,
                #[inline(always)]
                |x| simd.mul_f32s(x, scale),
            ),
            Some(bias) => zip(
                simd,
                row,
                bias,
                #[inline(always)]
                |x, bias| simd.mul_add_f32s(x, scale, bias),
            ),
        }
        let largest = simd.splat_f32s(largest(simd, row));
        let (head, tail) = S::as_mut_simd_f32s(row);
        let mut sum = simd.splat_f32s(0.0);
        for value in head.iter_mut() {
            *value = exp(simd, simd.sub_f32s(*value, largest));
            sum = simd.add_f32s(sum, *value);
        }
        map(
            simd,
            tail,
            #[inline(always)]
            |x| exp(simd, simd.sub_f32s(x, largest)),
        );
        let total = simd.reduce_sum_f32s(sum) + tail.iter().sum::<f32>();
        let inverse = simd.splat_f32s(1.0 / total);
        map(
            simd,
            row,
            #[inline(always)]
            |x| simd.mul_f32s(x, inverse),
        );
    }
}
