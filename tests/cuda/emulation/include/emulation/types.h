// CUDA's qualifiers, vector types and 16-bit floats, with the conversions of the latter.
#pragma once

#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) alignas(bytes)

struct uint3 {
    unsigned x, y, z;
};
using dim3 = uint3;

#define EMULATED_VECTORS(type, name)                                                             \
    struct alignas(2 * sizeof(type)) name##2 {                                                   \
        type x, y;                                                                               \
    };                                                                                           \
    struct alignas(16) name##4 {                                                                 \
        type x, y, z, w;                                                                         \
    };                                                                                           \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                             \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float)
EMULATED_VECTORS(int, int)
EMULATED_VECTORS(unsigned, uint)
#undef EMULATED_VECTORS

struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};

template <typename To, typename From>
inline To emulated_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof(to));
    return to;
}

inline unsigned __float_as_uint(float value) { return emulated_bits<unsigned>(value); }
inline int __float_as_int(float value) { return emulated_bits<int>(value); }
inline float __uint_as_float(unsigned bits) { return emulated_bits<float>(bits); }
inline float __int_as_float(int bits) { return emulated_bits<float>(bits); }

inline float __half2float(__half half) {
    const uint32_t magnitude = static_cast<uint32_t>(half.bits & 0x7fff) << 13;
    // The exponent's bias differs by 112; the product is exact for subnormal numbers too.
    const float scaled = __uint_as_float(magnitude) * 0x1p112f;
    const uint32_t finite = __float_as_uint(scaled);
    const uint32_t special = magnitude | 0x7f800000u;
    const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000) << 16;
    return __uint_as_float((magnitude >= 0x0f800000u ? special : finite) | sign);
}

inline __half __float2half_rn(float value) {
    const uint32_t bits = __float_as_uint(value), magnitude = bits & 0x7fffffff;
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000u) return {0x7fff};
    // From 65520 on the nearest is infinity.
    if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00)};
    if (magnitude < 0x38800000u) {
        // Subnormal: adding 1/2 leaves multiples of 2^-24 in the lower bits, rounded to the nearest even one.
        const float aligned = __uint_as_float(magnitude) + 0.5f;
        return {static_cast<uint16_t>(sign | (__float_as_uint(aligned) - 0x3f000000u))};
    }
    const uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1) - (112u << 23);
    return {static_cast<uint16_t>(sign | rounded >> 13)};
}

inline float __bfloat162float(__nv_bfloat16 value) { return __uint_as_float(static_cast<uint32_t>(value.bits) << 16); }

inline __nv_bfloat16 __float2bfloat16_rn(float value) {
    const uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7fffffff) > 0x7f800000u) return {0x7fff};
    return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
