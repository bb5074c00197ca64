// Bias, normalisation and rotation of the heads of queries and keys, in place, in one pass over the packed
// `[tokens, (query_heads + 2⋅kv_heads)⋅width]`.

#include "rows.cuh"

namespace {

constexpr int THREADS = 256;

// What there is to do; each part may be absent.
struct Work {
    // Of all columns.
    const float* bias;
    Norm query_norm, key_norm;
    // `[positions, half]`, and the position of each token.
    const float* cos;
    const float* sin;
    const int* positions;
    int query_heads, kv_heads, width, half;

    __device__ __forceinline__ int heads() const { return query_heads + 2 * kv_heads; }
    __device__ __forceinline__ int placed() const { return query_heads + kv_heads; }
    __device__ __forceinline__ int64_t rotation(int64_t token) const {
        return half ? static_cast<int64_t>(__ldg(positions + token)) * half : 0;
    }
};

// (a, b) becomes (a⋅cos - b⋅sin, b⋅cos + a⋅sin).
template <int SIZE>
__device__ __forceinline__ void rotate(float (&a)[SIZE], float (&b)[SIZE], const float* cos, const float* sin) {
    float c[SIZE], s[SIZE];
    load_chunk(c, cos);
    load_chunk(s, sin);
#pragma unroll
    for (int i = 0; i < SIZE; i++) {
        const float x = a[i], y = b[i];
        a[i] = x * c[i] - y * s[i];
        b[i] = y * c[i] + x * s[i];
    }
}

// Heads of up to two vectors per lane. blockDim.x lanes, a power of two, have a head, and a lane has both vectors that
// are rotated against each other.
template <typename T>
__device__ __forceinline__ void place_heads(T* qkv, const Work& work, int tokens) {
    constexpr int SIZE = Vector<T>::SIZE;
    // Without a bias the values stay as they are.
    const unsigned heads = work.bias ? work.heads() : work.placed();
    const unsigned task = blockIdx.x * blockDim.y + threadIdx.y;
    // All lanes of a warp take part in the sums.
    const bool active = task < tokens * heads;
    const int64_t token = active ? task / heads : 0;
    const int head = active ? task % heads : 0;
    const bool is_query = head < work.query_heads, is_placed = head < work.placed();
    const int half = is_placed ? work.half : 0, slot = threadIdx.x, turned = half / SIZE;
    const int first = slot < turned ? slot : 2 * slot, second = slot < turned ? slot + turned : 2 * slot + 1;
    const bool has_first = active && first * SIZE < work.width, has_second = active && second * SIZE < work.width;

    T* const of_head = qkv + (token * work.heads() + head) * work.width;
    float a[SIZE] = {}, b[SIZE] = {};
    if (has_first) load_chunk(a, of_head + first * SIZE);
    if (has_second) load_chunk(b, of_head + second * SIZE);
    if (work.bias) {
        const float* const bias = work.bias + head * work.width;
        if (has_first) add_chunk(a, bias, first * SIZE);
        if (has_second) add_chunk(b, bias, second * SIZE);
    }
    const Norm& norm = is_query ? work.query_norm : work.key_norm;
    if (norm.kind != NORM_NONE) {
        const auto sum = [&](auto term) {
            float total = 0.0f;
            if (has_first)
                for (int i = 0; i < SIZE; i++) total += term(a[i]);
            if (has_second)
                for (int i = 0; i < SIZE; i++) total += term(b[i]);
            for (int distance = blockDim.x / 2; distance > 0; distance /= 2)
                total += __shfl_xor_sync(ALL_LANES, total, distance);
            return total / work.width;
        };
        const float mean = norm.kind == NORM_LAYER ? sum([](float x) { return x; }) : 0.0f;
        const float variance = sum([&](float x) { return (x - mean) * (x - mean); });
        const float factor = 1.0f / sqrtf(variance + norm.epsilon);
        if (has_first && is_placed) norm.scale(a, mean, factor, first * SIZE);
        if (has_second && is_placed) norm.scale(b, mean, factor, second * SIZE);
    }
    if (active && slot < turned) {
        const int64_t at = work.rotation(token) + slot * SIZE;
        rotate(a, b, work.cos + at, work.sin + at);
    }
    if (has_first) store_chunk(of_head + first * SIZE, a);
    if (has_second) store_chunk(of_head + second * SIZE, b);
}

// Any heads, normalised each or `together`: a block has a token, its queries and keys in shared memory.
template <typename T, int SIZE>
__device__ __forceinline__ void place_token(T* qkv, const Work& work, int together) {
    DYNAMIC_SHARED(memory);
    float* const shared = reinterpret_cast<float*>(memory);
    const int64_t token = blockIdx.x;
    const int width = work.width, placed = work.placed() * width, all = work.heads() * width;
    const int step = blockDim.x * SIZE, from = threadIdx.x * SIZE;
    T* const of_token = qkv + token * all;
    for (int column = from; column < (work.bias ? all : placed); column += step) {
        float values[SIZE];
        load_chunk(values, of_token + column);
        add_chunk(values, work.bias, column);
        if (column < placed) store_chunk(shared + column, values);
        else store_chunk(of_token + column, values);
    }
    __syncthreads();
    if (work.query_norm.kind != NORM_NONE) {
        // Groups of columns, by turns over the warps; or two of them, by the whole block.
        const int warps = together ? 1 : blockDim.x / WARP, groups = together ? 2 : work.placed();
        const int threads = together ? blockDim.x : WARP, thread = threadIdx.x % threads;
        for (int group = threadIdx.x / threads; group < groups; group += warps) {
            const bool is_query = together ? group == 0 : group < work.query_heads;
            const Norm& norm = is_query ? work.query_norm : work.key_norm;
            const int count = !together ? width : (is_query ? work.query_heads : work.kv_heads) * width;
            float* const values = shared + (!together ? group * width : is_query ? 0 : work.query_heads * width);
            const auto sum = [&](auto term) {
                float total = 0.0f;
                for (int i = thread; i < count; i += threads) total += term(values[i]);
                return (together ? block_sum(total) : warp_sum(total)) / count;
            };
            const float mean = norm.kind == NORM_LAYER ? sum([](float x) { return x; }) : 0.0f;
            const float variance = sum([&](float x) { return (x - mean) * (x - mean); });
            const float factor = 1.0f / sqrtf(variance + norm.epsilon);
            for (int i = thread; i < count; i += threads) {
                const float scaled = (values[i] - mean) * factor * __ldg(norm.weight + i);
                values[i] = norm.bias ? scaled + __ldg(norm.bias + i) : scaled;
            }
        }
        __syncthreads();
    }
    const int half = work.half;
    const int64_t rotation = work.rotation(token);
    for (int column = from; column < placed; column += step) {
        const int in_head = column % width;
        float values[SIZE], other[SIZE];
        load_chunk(values, shared + column);
        if (in_head < half) {
            load_chunk(other, shared + column + half);
            rotate(values, other, work.cos + rotation + in_head, work.sin + rotation + in_head);
        } else if (in_head < 2 * half) {
            load_chunk(other, shared + column - half);
            rotate(other, values, work.cos + rotation + in_head - half, work.sin + rotation + in_head - half);
        }
        store_chunk(of_token + column, values);
    }
}

}  // namespace

#define PARAMETERS(T)                                                                                                 \
    T *qkv, const float *bias, const float *query_weight, const float *query_bias, const float *key_weight,           \
        const float *key_bias, const float *cos, const float *sin, const int *positions, int query_heads,             \
        int kv_heads, int width, int half, int kind, float epsilon, int tokens
#define WORK                                                                                                          \
    Work{bias,      Norm{kind, epsilon, query_weight, query_bias}, Norm{kind, epsilon, key_weight, key_bias}, cos,    \
         sin,       positions, query_heads, kv_heads, width, half}

#define ROTARY(T, suffix)                                                                            \
    KERNEL(rotary_heads_##suffix, THREADS, (PARAMETERS(T)), place_heads<T>(qkv, WORK, tokens))       \
    KERNEL(rotary_vectors_##suffix, THREADS, (PARAMETERS(T), int together),                          \
           (place_token<T, Vector<T>::SIZE>(qkv, WORK, together)))                                   \
    KERNEL(rotary_values_##suffix, THREADS, (PARAMETERS(T), int together), (place_token<T, 1>(qkv, WORK, together)))

FOR_ELEMENTS(ROTARY)
