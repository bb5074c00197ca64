//! Quantizes vectors to the stored precisions F16, Int8 and Binary.
//!
//! Int8 has a scale per vector: the largest magnitude becomes 127. It needs no calibration set, so that the stored form
//! depends on the vector alone, not on its shard, batch or attempt. The scale does not change a cosine.

use half::f16;

use crate::vectors::Rows;

/// The largest integer of the Int8 form.
const LEVELS: f32 = 127.0;

/// The definition of Int8, for the summary.
pub const INT8: &str = "symmetric per vector: round(127 * x / max|x|), scale = max|x| / 127 in the column NAME_scale";
/// The definition of Binary, for the summary.
pub const BINARY: &str = "the sign: bit 1 where x > 0, the first dimension in the highest bit";

/// Vectors as half floats, row-major.
pub fn to_f16(rows: &Rows) -> Vec<f16> {
    rows.values().iter().copied().map(f16::from_f32).collect()
}

/// Vectors as integers, row-major, and one scale per row: x ≈ scale ⋅ q.
pub fn to_int8(rows: &Rows) -> (Vec<i8>, Vec<f32>) {
    let mut integers = Vec::with_capacity(rows.values().len());
    let mut scales = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        let largest = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let scale = largest / LEVELS;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        integers.extend(row.iter().map(|value| (value * inverse).round().clamp(-LEVELS, LEVELS) as i8));
        scales.push(scale);
    }
    (integers, scales)
}

/// Vectors as bits, row-major, eight dimensions per byte; the first dimension is the highest bit.
///
/// # Panics
/// If the width is not divisible by 8.
pub fn to_binary(rows: &Rows) -> Vec<u8> {
    assert!(rows.dimensions().is_multiple_of(8), "the number of dimensions is a multiple of 8");
    let byte = |values: &[f32; 8]| values.iter().fold(0u8, |byte, value| byte << 1 | u8::from(*value > 0.0));
    rows.values().as_chunks().0.iter().map(byte).collect()
}

/// A vector from its bits, with the values 1 and -1.
pub fn from_binary(bytes: &[u8]) -> Vec<f32> {
    bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| if byte >> bit & 1 == 1 { 1.0 } else { -1.0 })).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_integer_is_off_by_half_a_level_at_most(values in prop::collection::vec(-3f32..3.0, 16)) {
            let (integers, scales) = to_int8(&Rows::new(16, values.clone()));
            for (value, integer) in values.iter().zip(integers) {
                prop_assert!((value - scales[0] * f32::from(integer)).abs() <= 0.501 * scales[0]);
            }
        }

        #[test]
        fn the_stored_form_depends_on_the_vector_alone(values in prop::collection::vec(-3f32..3.0, 32)) {
            let both = to_int8(&Rows::new(16, values.clone()));
            let alone = to_int8(&Rows::new(16, values[16..].to_vec()));
            prop_assert_eq!((&both.0[16..], both.1[1]), (&alone.0[..], alone.1[0]));
        }

        #[test]
        fn bits_are_the_signs(values in prop::collection::vec(-3f32..3.0, 24)) {
            let bytes = to_binary(&Rows::new(24, values.clone()));
            prop_assert_eq!(bytes.len(), 3);
            for (value, sign) in values.iter().zip(from_binary(&bytes)) {
                prop_assert_eq!(*value > 0.0, sign > 0.0);
            }
        }
    }

    #[test]
    fn the_first_dimension_is_the_highest_bit() {
        let row = Rows::new(8, vec![1.0, -1.0, 0.0, -2.0, 0.5, -1.0, -1.0, 3.0]);
        assert_eq!(to_binary(&row), [0b1000_1001]);
    }

    #[test]
    fn a_zero_vector_stays_zero() {
        assert_eq!(to_int8(&Rows::new(2, vec![0.0, 0.0])), (vec![0, 0], vec![0.0]));
    }
}
