//! Dot products of bytes with the instruction sets of x86-64. The tests of this folder compare each one that the
//! processor has with the portable form.

use std::arch::{
    is_x86_feature_detected,
    x86_64::{_mm256_dpbusd_avx_epi32, _mm512_dpbusd_epi32},
};

use pulp::{NullaryFnOnce, cast, i8x32, i8x64, i32x8, i32x16, x86::V3};

use super::dot::{Dot, GROUP};

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
pub(super) struct AvxVnni(V3);

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
pub(super) struct Avx512Vnni(pulp::x86::V4);

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
