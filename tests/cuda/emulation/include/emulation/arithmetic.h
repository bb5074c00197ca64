// Arithmetic that CUDA has beside C++'s own.
#pragma once

#include <cmath>
#include <cstdlib>
#include <type_traits>

template <typename T>
inline std::enable_if_t<std::is_arithmetic_v<T>, T> min(T a, T b) {
    return b < a ? b : a;
}
template <typename T>
inline std::enable_if_t<std::is_arithmetic_v<T>, T> max(T a, T b) {
    return a < b ? b : a;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __clz(int bits) { return bits ? __builtin_clz(static_cast<unsigned>(bits)) : 32; }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline float rsqrtf(float value) { return 1.0f / sqrtf(value); }
inline float __expf(float value) { return expf(value); }
inline float __logf(float value) { return logf(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float value) { return 1.0f / value; }
inline float __fsqrt_rn(float value) { return sqrtf(value); }
inline float __frsqrt_rn(float value) { return 1.0f / sqrtf(value); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
