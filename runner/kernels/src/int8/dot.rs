//! Dot products of bytes, four at a time: the interface of an instruction set, and the portable form.

use pulp::{NullaryFnOnce, bytemuck::Pod};

/// Activations or weights of one dot product.
pub(super) const GROUP: usize = 4;
/// The largest quantized activation. Seven bits, because `vpmaddubsw` sums two products in 16 bits: 2⋅127⋅127 fits.
pub(super) const LARGEST: u8 = 127;

/// An instruction set that multiplies four activations with four weights per column, for a vector of columns.
pub(super) trait Dot: Copy {
    /// A sum for each column.
    type Sums: Pod;
    /// [`GROUP`] weights for each column.
    type Weights: Pod;

    /// `sums` plus the dot products. No activation is above [`LARGEST`], no weight is -128.
    fn add(self, sums: Self::Sums, activations: [u8; GROUP], weights: Self::Weights) -> Self::Sums;

    /// Runs `f`, compiled for this instruction set as far as it is inlined.
    fn vectorize<F: NullaryFnOnce>(self, f: F) -> F::Output;
}

/// The columns of a vector of sums.
pub(super) const fn lanes<D: Dot>() -> usize {
    size_of::<D::Sums>() / size_of::<i32>()
}

/// Arrays of eight columns, which the compiler vectorizes where it can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portable;

impl Dot for Portable {
    type Sums = [i32; 8];
    type Weights = [[i8; GROUP]; 8];

    #[inline(always)]
    fn add(self, mut sums: [i32; 8], activations: [u8; GROUP], weights: [[i8; GROUP]; 8]) -> [i32; 8] {
        for column in 0..8 {
            for at in 0..GROUP {
                sums[column] += i32::from(activations[at]) * i32::from(weights[column][at]);
            }
        }
        sums
    }

    #[inline(always)]
    fn vectorize<F: NullaryFnOnce>(self, f: F) -> F::Output {
        f.call()
    }
}
