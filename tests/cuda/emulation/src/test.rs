//! Random values and comparisons for tests.

use crate::Real;

/// Numbers that look random, the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the sequence of a `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    /// The next number.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// A number from −1 to 1.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Values from −1 to 1, rounded to the element's type.
pub fn random<T: Real>(seed: u64, len: usize) -> Vec<T> {
    let mut random = Random::new(seed);
    (0..len).map(|_| T::of(random.value())).collect()
}

/// The values in single precision.
pub fn floats<T: Real>(values: &[T]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

/// Compares values with the expected ones, relative to the largest expected value or, if that is smaller, to 1.
///
/// # Panics
/// If a value differs by more than `tolerance`, or only one of the two is NaN.
pub fn assert_close<T: Real>(found: &[T], expected: &[f32], tolerance: f32, of: &str) {
    assert_eq!(found.len(), expected.len(), "{of}: the number of values");
    let finite = expected.iter().map(|value| value.abs()).filter(|value| value.is_finite());
    let allowed = tolerance * finite.fold(1.0, f32::max);
    for (at, (found, &expected)) in found.iter().map(|value| value.to_f32()).zip(expected).enumerate() {
        let equal = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
        assert!(equal || (found - expected).abs() <= allowed, "{of}: {found} at {at}, not {expected}");
    }
}

/// Whether two lists are equal bit for bit, where any NaN equals any other.
pub fn same<T: Real>(a: &[T], b: &[T]) -> bool {
    let equal =
        |(a, b): (&T, &T)| a.to_f32().to_bits() == b.to_f32().to_bits() || (a.to_f32().is_nan() && b.to_f32().is_nan());
    a.len() == b.len() && a.iter().zip(b).all(equal)
}
