//! Softmax attention of one sequence, without padding and without a mask in memory.
//!
//! Per head, keys and values are packed once. Then for each block of queries: scores = Q⋅Kᵀ over the keys that the block
//! may see; the exponentials of each row's scaled scores, over the keys of that row alone; exponentials ⋅ V; each row
//! divided by the sum of its exponentials. The division comes last because a context is shorter than a row of scores.
//! Memory never holds more of the score matrix than one block.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{
    math::exp,
    matmul::{Epilogue, Packed, Rows, SubMatrix, TILE_ROWS, product_with_submatrix},
    simd::{arch, largest, map, zip},
};

/// Bytes that the scores of a block of queries take at most, unless one tile of rows takes more.
const MAX_SCORE_BYTES: usize = 64 * 1024;
/// Queries of the largest block.
const MAX_BLOCK_ROWS: usize = 8 * TILE_ROWS;

/// The queries of one head of one sequence; rows are `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The values, from the first query on.
    pub queries: &'a [f32],
    /// Values from the start of a row to that of the next.
    pub stride: usize,
    /// Added to the score of query `i` and key `j`: the value at `centre + j - i`.
    pub bias: Option<Bias<'a>>,
}

/// The bias that a head adds to scores by the distance of key and query.
#[derive(Clone, Copy, Debug)]
pub struct Bias<'a> {
    /// A value per distance.
    pub by_distance: &'a [f32],
    /// The index of distance 0.
    pub centre: usize,
}

/// Memory that is reused for every head: the packed keys and values, and the scores of a block.
#[derive(Debug)]
pub struct Scratch {
    keys: Packed,
    values: Packed,
    scores: Vec<f32>,
    /// Multiplied with the scores.
    scale: f32,
    /// 1 / the sum of the exponentials, for every row of the block.
    inverses: [f32; MAX_BLOCK_ROWS],
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            keys: Packed::default(),
            values: Packed::default(),
            scores: Vec::new(),
            scale: 1.0,
            inverses: [0.0; MAX_BLOCK_ROWS],
        }
    }
}

/// Keys and values of one head of one sequence; rows are `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct KeysAndValues<'a> {
    /// The values, from the first key on.
    pub keys: &'a [f32],
    /// The values, from the first value on.
    pub values: &'a [f32],
    /// The length of the sequence in tokens.
    pub length: usize,
    /// The width of the head.
    pub width: usize,
    /// Values from the start of a row to that of the next.
    pub stride: usize,
    /// Multiplied with the scores; more than 0.
    pub scale: f32,
}

impl Scratch {
    /// Packs the keys and values of one head of one sequence.
    pub fn pack(&mut self, head: KeysAndValues<'_>) {
        let KeysAndValues { keys, values, length, width, stride, scale } = head;
        self.keys.pack_transposed(keys, length, width, stride);
        self.keys.widen();
        self.values.pack(values, width, length, stride);
        self.scale = scale;
    }

    /// The contexts of the queries at the positions `queries` of the sequence, one row of `out` each, `out_stride` values
    /// apart. `sees` gives the keys that the query at a position sees: at least one, and neither their start nor
    /// their end decreases from one query to the next.
    pub fn attend(
        &mut self,
        head: Head<'_>,
        queries: Range<usize>,
        sees: impl Fn(usize) -> Range<usize>,
        out: &mut [f32],
        out_stride: usize,
    ) {
        let wide = self.keys.columns();
        let rows = (MAX_SCORE_BYTES / 4 / wide.max(1)).clamp(TILE_ROWS, MAX_BLOCK_ROWS) / TILE_ROWS * TILE_ROWS;
        for first in queries.clone().step_by(rows) {
            let block = first..queries.end.min(first + rows);
            let visible = sees(block.start).start..sees(block.end - 1).end;
            // The visible scores are written before they are read.
            self.scores.resize(self.scores.len().max(block.len() * wide), 0.0);
            let block_queries = Rows {
                values: &head.queries[(first - queries.start) * head.stride..],
                count: block.len(),
                stride: head.stride,
            };
            let columns = SubMatrix { columns: visible.clone(), depth: 0..self.keys.depth() };
            product_with_submatrix(block_queries, &self.keys, columns, Epilogue::default(), &mut self.scores, wide);
            let rows = block.clone().zip(self.scores.chunks_exact_mut(wide)).zip(&mut self.inverses);
            for ((query, scores), inverse) in rows {
                let keys = sees(query);
                // Keys that only other queries of the block see.
                scores[visible.start..keys.start].fill(0.0);
                scores[keys.end..visible.end].fill(0.0);
                let bias = head.bias.map(|bias| &bias.by_distance[bias.centre + keys.start - query..][..keys.len()]);
                *inverse = 1.0 / arch().dispatch(Exponentials { row: &mut scores[keys], scale: self.scale, bias });
            }
            let weights = Rows { values: &self.scores[visible.start..], count: block.len(), stride: wide };
            let width = self.values.columns();
            let depth = SubMatrix { columns: 0..width, depth: visible };
            let place = &mut out[(first - queries.start) * out_stride..];
            product_with_submatrix(weights, &self.values, depth, Epilogue::default(), place, out_stride);
            let inverses = &self.inverses[..block.len()];
            arch().dispatch(ScaleRows { rows: place, stride: out_stride, width, factors: inverses });
        }
    }
}

/// Replaces row by exp(row ⋅ scale + bias - their largest). Returns the sum.
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
        let minus_largest = simd.neg_f32s(simd.mul_f32s(simd.splat_f32s(largest(simd, row)), scale));
        let (head, tail) = S::as_mut_simd_f32s(row);
        let mut sum = simd.splat_f32s(0.0);
        for value in head.iter_mut() {
            *value = exp(simd, simd.mul_add_f32s(*value, scale, minus_largest));
            sum = simd.add_f32s(sum, *value);
        }
        map(
            simd,
            tail,
            #[inline(always)]
            |x| exp(simd, simd.mul_add_f32s(x, scale, minus_largest)),
        );
        simd.reduce_sum_f32s(sum) + tail.iter().sum::<f32>()
    }
}

/// Multiplies the first `width` values of each row with the factor of that row.
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
