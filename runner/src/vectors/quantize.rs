//! Quantizes vectors to the stored precisions F16, Int8 and Binary, and reads them back.
//!
//! Int8 has a scale per vector: the largest magnitude becomes 127. It needs no calibration set, so that the stored form
//! depends on the vector alone, not on its shard, batch or attempt. The scale does not change a cosine.

use crds::v1alpha1::Precision;
use half::f16;

use crate::vectors::Rows;

/// The largest integer of the Int8 form.
const LEVELS: f32 = 127.0;

/// The definition of Int8, for the summary.
pub const INT8: &str = "symmetric per vector: round(127 * x / max|x|), scale = max|x| / 127 in the column NAME_scale; one \
                        signed byte per dimension";
/// The definition of Binary, for the summary.
pub const BINARY: &str = "the sign: bit 1 where x > 0, eight dimensions per byte, the first in the highest bit";

/// The first row that has a value beyond the range of the precision, and that value; `None` if all values fit. Values that
/// are not finite do not fit anywhere.
pub fn beyond_range(rows: &Rows, precision: Precision) -> Option<(usize, f32)> {
    let fits = |value: f32| match precision {
        // Rounding decides, so that 65,519 still fits.
        Precision::F16 => f16::from_f32(value).is_finite(),
        Precision::F32 | Precision::Int8 | Precision::Binary => value.is_finite(),
    };
    let beyond = rows.values().iter().position(|value| !fits(*value))?;
    Some((beyond / rows.dimensions(), rows.values()[beyond]))
}

/// The vectors that a reader of the stored form gets: rounded to half floats, to a scale times integers, or to the signs 1
/// and -1.
///
/// # Panics
/// If the precision is `Binary` and the width is not divisible by 8.
pub fn stored(rows: Rows, precision: Precision) -> Rows {
    let width = rows.dimensions();
    match precision {
        Precision::F32 => rows,
        Precision::F16 => Rows::new(width, to_f16(&rows).into_iter().map(f16::to_f32).collect()),
        Precision::Int8 => {
            let (integers, scales) = to_int8(&rows);
            let rows = integers.chunks_exact(width).zip(scales);
            let values = rows.flat_map(|(row, scale)| row.iter().map(move |value| from_int8(*value, scale)));
            Rows::new(width, values.collect())
        }
        Precision::Binary => Rows::new(width, from_binary(&to_binary(&rows))),
    }
}

/// The finest of several precisions; `F32` of none.
pub fn finest(precisions: impl Iterator<Item = Precision>) -> Precision {
    let coarseness = |precision: &Precision| match precision {
        Precision::F32 => 0,
        Precision::F16 => 1,
        Precision::Int8 => 2,
        Precision::Binary => 3,
    };
    precisions.min_by_key(coarseness).unwrap_or_default()
}

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

/// A value from its integer and the scale of its vector.
pub fn from_int8(integer: i8, scale: f32) -> f32 {
    f32::from(integer) * scale
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
    fn the_stored_form_is_what_a_reader_gets() {
        let rows = || Rows::new(8, vec![1.0, -0.6, 0.1, 0.0, 0.33, -1.0, 0.7, 1e-9]);
        assert_eq!(stored(rows(), Precision::F32), rows());
        assert_eq!(stored(rows(), Precision::Binary).values(), [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0]);
        let (half, eight) = (stored(rows(), Precision::F16), stored(rows(), Precision::Int8));
        assert_eq!(half.values()[2].to_bits(), f16::from_f32(0.1).to_f32().to_bits());
        for (value, levels) in eight.values().iter().zip([127.0, -76.0, 13.0]) {
            assert!((value - levels / 127.0).abs() < 1e-6, "{value} and {levels} levels");
        }
        assert_eq!((half.values()[7], eight.values()[7]), (0.0, 0.0));
    }

    #[test]
    fn a_value_beyond_half_floats_is_found_with_its_row() {
        let rows = |value: f32| Rows::new(2, vec![0.0, 1.0, -2.0, value]);
        for (value, precision, beyond) in [
            (65_504.0, Precision::F16, false),
            (-65_519.0, Precision::F16, false),
            (65_520.0, Precision::F16, true),
            (-1e6, Precision::F16, true),
            (1e30, Precision::F32, false),
            (1e30, Precision::Int8, false),
            (f32::INFINITY, Precision::F32, true),
            (f32::INFINITY, Precision::Binary, true),
        ] {
            let expected = beyond.then_some((1, value));
            assert_eq!(beyond_range(&rows(value), precision), expected, "{value} as {precision:?}");
        }
        assert!(beyond_range(&rows(f32::NAN), Precision::Int8).is_some());
    }

    #[test]
    fn the_finest_precision_of_models_is_selected() {
        use Precision::{Binary, F16, F32, Int8};
        for (precisions, expected) in
            [(&[][..], F32), (&[Int8, Int8], Int8), (&[Binary, Int8], Int8), (&[F16, Binary], F16), (&[Int8, F32], F32)]
        {
            assert_eq!(finest(precisions.iter().copied()), expected, "{precisions:?}");
        }
    }

    #[test]
    fn a_zero_vector_stays_zero() {
        assert_eq!(to_int8(&Rows::new(2, vec![0.0, 0.0])), (vec![0, 0], vec![0.0]));
    }
}
