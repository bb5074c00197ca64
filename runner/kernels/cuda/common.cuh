// Shared by all kernels: element types, vectors of 16 bytes, reductions, instantiation.
//
// The sources are compiled by nvcc for the device and, with EMBEDRUN_EMULATED, as C++ for the tests. Macros hide the
// differences:
//   SHARED_ARRAY(type, name, count);   an array in static shared memory, inside a function
//   DYNAMIC_SHARED(name);              the dynamic shared memory, `unsigned char*`, aligned to 128 bytes
//   KERNEL(name, threads, (parameters), statement)   an extern "C" kernel of at most `threads` threads per block
#pragma once

#ifdef EMBEDRUN_EMULATED
#include "emulation.h"

#define CHECK_ALIGNED(pointer, bytes) emulation::check_aligned(pointer, bytes)
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#define CHECK_ALIGNED(pointer, bytes)
#define SHARED_ARRAY(type, name, count) __shared__ type name[count]
#define DYNAMIC_SHARED(name)                                   \
    extern __shared__ __align__(128) unsigned char name##_[];  \
    unsigned char* const name = name##_
#define KERNEL_BOUNDS(name, threads, blocks, parameters, ...) \
    extern "C" __global__ void __launch_bounds__(threads, blocks) name parameters { __VA_ARGS__; }
#endif

#define KERNEL(name, threads, parameters, ...) KERNEL_BOUNDS(name, threads, 1, parameters, __VA_ARGS__)

// Applies MACRO(type, suffix) to every element type, or to the two-byte types.
#define FOR_HALF_ELEMENTS(MACRO) MACRO(__half, f16) MACRO(__nv_bfloat16, bf16)
#define FOR_ELEMENTS(MACRO) MACRO(float, f32) FOR_HALF_ELEMENTS(MACRO)

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Element types

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

template <typename T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
    return value;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float value) {
    return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
    return __float2bfloat16_rn(value);
}

// Two two-byte values in a register, the first in the lower half.
template <typename T>
__device__ __forceinline__ uint32_t two_in_register(float low, float high);
#ifdef EMBEDRUN_EMULATED
template <typename T>
uint32_t two_in_register(float low, float high) {
    return from_float<T>(low).bits | static_cast<uint32_t>(from_float<T>(high).bits) << 16;
}
#else
template <>
__device__ __forceinline__ uint32_t two_in_register<__half>(float low, float high) {
    const __half2 both = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
}
template <>
__device__ __forceinline__ uint32_t two_in_register<__nv_bfloat16>(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&both);
}
#endif

// Vectors of 16 bytes

template <typename T>
struct alignas(16) Vector {
    static constexpr int SIZE = 16 / sizeof(T);
    T values[SIZE];
};

__device__ __forceinline__ bool is_aligned(const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

// Whether rows of `width` values from `pointer` on can be read and written as vectors. True for a null pointer.
template <typename T>
__device__ __forceinline__ bool has_vectors(const T* pointer, int64_t width) {
    return width % Vector<T>::SIZE == 0 && is_aligned(pointer);
}

template <typename T>
__device__ __forceinline__ Vector<T> load_vector(const T* from) {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(from));
    Vector<T> vector;
    memcpy(&vector, &bits, sizeof(vector));
    return vector;
}

// Same as `load_vector`, for memory that this kernel also writes.
template <typename T>
__device__ __forceinline__ Vector<T> load_written_vector(const T* from) {
    CHECK_ALIGNED(from, 16);
    const uint4 bits = *reinterpret_cast<const uint4*>(from);
    Vector<T> vector;
    memcpy(&vector, &bits, sizeof(vector));
    return vector;
}

template <typename T>
__device__ __forceinline__ void store_vector(T* to, const Vector<T>& vector) {
    CHECK_ALIGNED(to, 16);
    uint4 bits;
    memcpy(&bits, &vector, sizeof(bits));
    *reinterpret_cast<uint4*>(to) = bits;
}

// Reductions

// The larger value, or NaN if either is NaN.
__device__ __forceinline__ float largest(float a, float b) { return a > b || a != a ? a : b; }

// Reductions over a warp; every lane gets the result.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

__device__ __forceinline__ float warp_largest(float value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2)
        value = largest(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

// Reductions over a one-dimensional block of whole warps; every thread gets the result, and every thread has to call
// them.
__device__ __forceinline__ float block_sum(float value) {
    SHARED_ARRAY(float, warp_results, WARP);
    const int warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    value = warp_sum(value);
    if (warps == 1) return value;
    if (lane == 0) warp_results[threadIdx.x / WARP] = value;
    __syncthreads();
    value = warp_sum(lane < warps ? warp_results[lane] : 0.0f);
    __syncthreads();
    return value;
}

__device__ __forceinline__ float block_largest(float value) {
    SHARED_ARRAY(float, warp_results, WARP);
    const int warps = blockDim.x / WARP, lane = threadIdx.x % WARP;
    value = warp_largest(value);
    if (warps == 1) return value;
    if (lane == 0) warp_results[threadIdx.x / WARP] = value;
    __syncthreads();
    value = warp_largest(lane < warps ? warp_results[lane] : -INFINITY);
    __syncthreads();
    return value;
}
