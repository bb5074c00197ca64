//! Dot products of bytes, four at a time, with the instructions of each processor.
//!
//! The forms for AVX-512 VNNI and AVX-VNNI are compiled but have never run: no processor at hand has either. On a
//! processor that has one, the tests of this folder compare it with the portable form like the others.

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

/// The instruction sets. Each value proves that the processor has the set.
#[derive(Clone, Copy, Debug)]
pub(super) enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(x86::Avx512Vnni),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(x86::AvxVnni),
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    Portable,
}

impl Instructions {
    /// The sets that this processor has, the fastest first.
    pub(super) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let found = [
            x86::Avx512Vnni::try_new().map(Self::Avx512Vnni),
            x86::AvxVnni::try_new().map(Self::AvxVnni),
            pulp::x86::V3::try_new().map(Self::Avx2),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let found: [Option<Self>; 0] = [];
        found.into_iter().flatten().chain([Self::Portable])
    }
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

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    //! The instruction sets of x86-64.

    use std::arch::{
        is_x86_feature_detected,
        x86_64::{_mm256_dpbusd_avx_epi32, _mm512_dpbusd_epi32},
    };

    use pulp::{NullaryFnOnce, cast, i8x32, i8x64, i32x8, i32x16, x86::V3};

    use super::{Dot, GROUP};

    impl Dot for V3 {
        type Sums = i32x8;
        type Weights = i8x32;

        #[inline(always)]
        fn add(self, sums: i32x8, activations: [u8; GROUP], weights: i8x32) -> i32x8 {
            let activations = cast(self.splat_i32x8(i32::from_ne_bytes(activations)));
            let pairs = self.multiply_saturating_add_adjacent_i8x32(activations, weights);
            self.wrapping_add_i32x8(sums, self.multiply_wrapping_add_adjacent_i16x16(pairs, self.splat_i16x16(1)))
        }

        #[inline(always)]
        fn vectorize<F: NullaryFnOnce>(self, f: F) -> F::Output {
            V3::vectorize(self, f)
        }
    }

    /// Proof that the processor has AVX-VNNI.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::int8) struct AvxVnni(V3);

    impl AvxVnni {
        pub(super) fn try_new() -> Option<Self> {
            V3::try_new().filter(|_| is_x86_feature_detected!("avxvnni")).map(Self)
        }
    }

    impl Dot for AvxVnni {
        type Sums = i32x8;
        type Weights = i8x32;

        #[inline(always)]
        #[allow(unsafe_code)]
        fn add(self, sums: i32x8, activations: [u8; GROUP], weights: i8x32) -> i32x8 {
            let activations = self.0.splat_i32x8(i32::from_ne_bytes(activations));
            // SAFETY: `self` is only made where the processor has the instruction, which touches no memory.
            cast(unsafe { _mm256_dpbusd_avx_epi32(cast(sums), cast(activations), cast(weights)) })
        }

        #[inline(always)]
        #[allow(unsafe_code)]
        fn vectorize<F: NullaryFnOnce>(self, f: F) -> F::Output {
            #[target_feature(enable = "avx2,bmi1,bmi2,fma,lzcnt,popcnt,avxvnni")]
            #[inline]
            fn call<F: NullaryFnOnce>(f: F) -> F::Output {
                f.call()
            }
            // SAFETY: `self` is only made where the processor has these.
            unsafe { call(f) }
        }
    }

    /// Proof that the processor has AVX-512 VNNI.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::int8) struct Avx512Vnni(pulp::x86::V4);

    impl Avx512Vnni {
        pub(super) fn try_new() -> Option<Self> {
            pulp::x86::V4::try_new().filter(|_| is_x86_feature_detected!("avx512vnni")).map(Self)
        }
    }

    impl Dot for Avx512Vnni {
        type Sums = i32x16;
        type Weights = i8x64;

        #[inline(always)]
        #[allow(unsafe_code)]
        fn add(self, sums: i32x16, activations: [u8; GROUP], weights: i8x64) -> i32x16 {
            let activations = self.0.splat_i32x16(i32::from_ne_bytes(activations));
            // SAFETY: `self` is only made where the processor has the instruction, which touches no memory.
            cast(unsafe { _mm512_dpbusd_epi32(cast(sums), cast(activations), cast(weights)) })
        }

        #[inline(always)]
        #[allow(unsafe_code)]
        fn vectorize<F: NullaryFnOnce>(self, f: F) -> F::Output {
            #[target_feature(enable = "avx2,bmi1,bmi2,fma,lzcnt,popcnt")]
            #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni")]
            #[inline]
            fn call<F: NullaryFnOnce>(f: F) -> F::Output {
                f.call()
            }
            // SAFETY: `self` is only made where the processor has these.
            unsafe { call(f) }
        }
    }
}
