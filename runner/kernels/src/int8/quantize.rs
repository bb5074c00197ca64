//! Rows of activations to 8-bit integers, each row with a scale and a zero point of its own.

use pulp::{Simd, WithSimd};

use super::dot::{GROUP, LARGEST};
use crate::{
    matmul::Rows,
    simd::{arch, load},
};

/// Values that are quantized at a time.
const CHUNK: usize = 32;
/// Adding 1.5⋅2²³ rounds a value to an integer and leaves it in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// The quantization of a row of activations: x = `scale` ⋅ (q - `zero_point`).
#[derive(Clone, Copy, Debug)]
pub(super) struct RowScale {
    /// NaN if a value of the row is not finite.
    pub(super) scale: f32,
    pub(super) zero_point: i32,
}

/// Rows of activations in 8-bit integers, without gaps, each padded to whole groups.
#[derive(Debug, Default)]
pub(super) struct QuantizedRows {
    pub(super) values: Vec<[u8; GROUP]>,
    pub(super) scales: Vec<RowScale>,
}

impl QuantizedRows {
    /// Replaces the rows with `rows` of `depth` values, quantized.
    pub(super) fn fill(&mut self, rows: Rows<'_>, depth: usize) {
        let groups = depth.div_ceil(GROUP);
        self.values.resize(rows.count * groups, [0; GROUP]);
        self.scales.clear();
        arch().dispatch(Quantize { rows, depth, groups, quantized: self });
    }
}

struct Quantize<'a> {
    rows: Rows<'a>,
    depth: usize,
    groups: usize,
    quantized: &'a mut QuantizedRows,
}

impl WithSimd for Quantize<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, depth, groups, quantized } = self;
        for row in 0..rows.count {
            let values = &rows.values[row * rows.stride..][..depth];
            let out = quantized.values[row * groups..][..groups].as_flattened_mut();
            quantized.scales.push(quantize(simd, values, out));
        }
    }
}

/// Quantizes a row into `out`, which may be longer than the row.
#[inline(always)]
fn quantize<S: Simd>(simd: S, values: &[f32], out: &mut [u8]) -> RowScale {
    let (scale, smallest) = scale_and_smallest(simd, values);
    // Rows whose scale is subnormal become zeros: the inverse of the scale would overflow.
    let inverse = if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
    let zero_point = (-smallest * inverse + ROUND) - ROUND;
    let (inverse, shift) = (simd.splat_f32s(inverse), simd.splat_f32s(ROUND + zero_point));
    let (chunks, rest) = values.as_chunks::<CHUNK>();
    let (out_chunks, _) = out.as_chunks_mut::<CHUNK>();
    for index in 0..chunks.len() {
        out_chunks[index] = quantize_chunk(simd, &chunks[index], inverse, shift);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; CHUNK];
        padded[..rest.len()].copy_from_slice(rest);
        let quantized = quantize_chunk(simd, &padded, inverse, shift);
        let places = out[chunks.len() * CHUNK..].iter_mut();
        for (place, value) in places.zip(quantized) {
            *place = value;
        }
    }
    RowScale { scale, zero_point: zero_point as i32 }
}

/// The scale of a row, which is NaN if a value is not finite, and the smallest of its values and 0.
#[inline(always)]
fn scale_and_smallest<S: Simd>(simd: S, values: &[f32]) -> (f32, f32) {
    let zero = simd.splat_f32s(0.0);
    let (mut smallest, mut largest, mut not_finite) = (zero, zero, zero);
    for from in (0..values.len()).step_by(S::F32_LANES) {
        let value = load(simd, &values[from..values.len().min(from + S::F32_LANES)]);
        smallest = simd.min_f32s(smallest, value);
        largest = simd.max_f32s(largest, value);
        // 0 ⋅ ∞ is NaN, and NaN stays NaN in a sum.
        not_finite = simd.mul_add_f32s(value, zero, not_finite);
    }
    let smallest = simd.reduce_min_f32s(smallest);
    let largest = simd.reduce_max_f32s(largest);
    ((largest - smallest) / f32::from(LARGEST) + simd.reduce_sum_f32s(not_finite), smallest)
}

/// x ⋅ `inverse` + zero point, rounded; `shift` is the zero point plus [`ROUND`].
#[inline(always)]
fn quantize_chunk<S: Simd>(simd: S, values: &[f32; CHUNK], inverse: S::f32s, shift: S::f32s) -> [u8; CHUNK] {
    let (lowest, highest) = (simd.splat_f32s(ROUND), simd.splat_f32s(ROUND + f32::from(LARGEST)));
    let mut bits = [0; CHUNK];
    let ((values, _), (places, _)) = (S::as_simd_f32s(values), S::as_mut_simd_u32s(&mut bits));
    for at in 0..values.len() {
        let value = simd.mul_add_f32s(values[at], inverse, shift);
        // The zero point is rounded too, so the ends of the range can be off by one.
        let value = simd.min_f32s(simd.max_f32s(value, lowest), highest);
        places[at] = simd.transmute_u32s_f32s(value);
    }
    let mut quantized = [0; CHUNK];
    for at in 0..CHUNK {
        quantized[at] = bits[at] as u8;
    }
    quantized
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random;

    #[test]
    fn activations_keep_their_value_within_half_a_step_and_zero_is_exact() {
        for seed in 0..200 {
            let mut row = random(seed, 77);
            row[3] = 0.0;
            let offset = if seed % 3 == 0 { 0.0 } else { (seed % 7) as f32 - 3.0 };
            row.iter_mut().skip(4).for_each(|value| *value = *value * 5.0 + offset);
            let mut quantized = QuantizedRows::default();
            quantized.fill(Rows { values: &row, count: 1, stride: row.len() }, row.len());
            let RowScale { scale, zero_point } = quantized.scales[0];
            let bytes = quantized.values.as_flattened();
            assert_eq!(i32::from(bytes[3]), zero_point);
            for (value, byte) in row.iter().zip(bytes) {
                assert!(*byte <= LARGEST);
                let back = scale * (i32::from(*byte) - zero_point) as f32;
                // An end may be cut by another half.
                let inner = (1..LARGEST).contains(byte);
                let bound = scale * if inner { 0.501 } else { 1.001 };
                assert!((back - value).abs() <= bound, "{value} became {back}");
            }
        }
    }
}
