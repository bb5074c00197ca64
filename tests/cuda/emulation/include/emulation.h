// CUDA as seen by a kernel that is compiled as C++: one block at a time, its threads as fibers.
//
// A thread runs until it waits at a barrier or a warp collective; then the next one runs. The threads of a block run in
// an order that differs from block to block, so that a missing barrier shows. What cannot be right ends the launch with
// an error instead of a hang: a collective that not all of its lanes reach, a barrier that some threads never reach.
// Shared memory is NaN at the start of every block.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

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

// Types

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

// The machine

namespace emulation {

// Gives every payload of a collective its answer; they are by lane, null for lanes that take no part.
using Resolver = void (*)(void* const* payloads);

struct Block {
    uint3 index, size, grid;
    unsigned char* dynamic_shared;
};

struct Thread {
    uint3 index;
    unsigned lane;
    Block* block;
    // Copies that have been started but not waited for, see `copy_async`.
    struct Copies* copies;
};

// The thread that runs.
extern __thread Thread* current __attribute__((tls_model("initial-exec")));

// Ends the launch.
[[noreturn]] void fail(const char* message);
void barrier();
// Waits until all lanes of `mask` are at the same collective; the last one resolves it.
void collective(unsigned mask, Resolver resolver, void* payload);
// Memory of the block that `key` stands for, the same for all threads.
void* shared(const void* key, size_t bytes, size_t alignment);
// Copies 16 bytes, the first `present` of them from `from`, the others 0. The target is NaN until the copy was waited
// for.
void copy_async(void* to, const void* from, unsigned present);
void commit_copies();
// Waits for all groups of copies but the last `pending` ones.
void wait_for_copies(unsigned pending);

template <typename T, size_t N>
T (&shared_array(const void* key))[N] {
    return *static_cast<T(*)[N]>(shared(key, sizeof(T[N]), alignof(T) > 16 ? alignof(T) : 16));
}

inline void check_aligned(const void* pointer, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes) fail("an access that is not aligned");
}

// Kernels by name

template <typename P>
constexpr char kind() {
    if constexpr (std::is_pointer_v<P>) return 'p';
    else if constexpr (std::is_same_v<P, float>) return 'f';
    else if constexpr (std::is_integral_v<P> && sizeof(P) == 4) return 'i';
    else {
        static_assert(std::is_integral_v<P> && sizeof(P) == 8, "parameters are pointers, int, int64_t or float");
        return 'l';
    }
}

struct Kernel {
    // The path of the file that has it.
    const char* source;
    const char* name;
    unsigned threads;
    // A letter per parameter.
    const char* signature;
    void (*call)(const void* const* parameters);
    Kernel* next;
};

void add(Kernel* kernel);

template <auto Function>
struct Invoke;

template <typename... P, void (*Function)(P...)>
struct Invoke<Function> {
    static constexpr char SIGNATURE[] = {kind<P>()..., 0};

    template <size_t... I>
    static void call_with(const void* const* parameters, std::index_sequence<I...>) {
        Function(*static_cast<const P*>(parameters[I])...);
    }
    static void call(const void* const* parameters) { call_with(parameters, std::index_sequence_for<P...>()); }
};

struct Registration {
    Kernel kernel;
    Registration(const char* source, const char* name, unsigned threads, const char* signature, void (*call)(const void* const*))
        : kernel{source, name, threads, signature, call, nullptr} {
        add(&kernel);
    }
};

}  // namespace emulation

#define KERNEL_BOUNDS(name, threads, blocks, parameters, ...)                                    \
    extern "C" void name parameters { __VA_ARGS__; }                                             \
    static emulation::Registration name##_registration(__FILE__, #name, threads,                      \
                                                       emulation::Invoke<name>::SIGNATURE,             \
                                                       emulation::Invoke<name>::call);

#define SHARED_ARRAY(type, name, count) \
    static char name##_key;             \
    auto& name = emulation::shared_array<type, count>(&name##_key)
#define DYNAMIC_SHARED(name) unsigned char* const name = emulation::current->block->dynamic_shared

#define threadIdx (emulation::current->index)
#define blockIdx (emulation::current->block->index)
#define blockDim (emulation::current->block->size)
#define gridDim (emulation::current->block->grid)

// Barriers and warps

inline void __syncthreads() { emulation::barrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulation::collective(mask, [](void* const*) {}, emulation::current);
}

namespace emulation {

struct Shuffle {
    uint64_t value, answer;
    unsigned source;
};

template <typename T>
T shuffle(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 8);
    Shuffle shuffle{0, 0, source};
    memcpy(&shuffle.value, &value, sizeof(T));
    collective(
        mask,
        [](void* const* payloads) {
            for (int lane = 0; lane < 32; lane++) {
                if (!payloads[lane]) continue;
                auto* one = static_cast<Shuffle*>(payloads[lane]);
                const auto* other = static_cast<const Shuffle*>(payloads[one->source]);
                one->answer = other ? other->value : ~uint64_t{0};
            }
        },
        &shuffle);
    memcpy(&value, &shuffle.answer, sizeof(T));
    return value;
}

}  // namespace emulation

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned lane = emulation::current->lane;
    return emulation::shuffle(mask, value, (lane & ~(width - 1u)) | (source & (width - 1u)));
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32) {
    const unsigned lane = emulation::current->lane, source = lane ^ distance;
    return emulation::shuffle(mask, value, source <= (lane | (width - 1u)) ? source : lane);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const unsigned lane = emulation::current->lane;
    return emulation::shuffle(mask, value, (lane & (width - 1u)) >= distance ? lane - distance : lane);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const unsigned lane = emulation::current->lane;
    return emulation::shuffle(mask, value, (lane & (width - 1u)) + distance < unsigned(width) ? lane + distance : lane);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    struct Vote {
        int predicate;
        unsigned answer;
    } vote{predicate, 0};
    emulation::collective(
        mask,
        [](void* const* payloads) {
            unsigned answer = 0;
            for (int lane = 0; lane < 32; lane++)
                if (payloads[lane] && static_cast<Vote*>(payloads[lane])->predicate) answer |= 1u << lane;
            for (int lane = 0; lane < 32; lane++)
                if (payloads[lane]) static_cast<Vote*>(payloads[lane])->answer = answer;
        },
        &vote);
    return vote.answer;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

// Memory. Only one thread runs at a time, so that everything is atomic.

template <typename T>
inline T __ldg(const T* pointer) {
    emulation::check_aligned(pointer, sizeof(T));
    return *pointer;
}

template <typename T>
inline T atomicExch(T* to, T value) {
    return std::exchange(*to, value);
}
template <typename T>
inline T atomicAdd(T* to, T value) {
    return atomicExch(to, T(*to + value));
}
template <typename T>
inline T atomicMax(T* to, T value) {
    return atomicExch(to, *to < value ? value : *to);
}
template <typename T>
inline T atomicMin(T* to, T value) {
    return atomicExch(to, value < *to ? value : *to);
}
template <typename T>
inline T atomicCAS(T* to, T compare, T value) {
    const T old = *to;
    if (old == compare) *to = value;
    return old;
}

// Arithmetic

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
