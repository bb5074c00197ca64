// Bias, normalisation and rotation of the heads of queries and keys, in place, in one pass over the packed
// `[tokens, (query_heads + 2⋅kv_heads)⋅width]`.

#include "rows.cuh"

namespace {

constexpr int THREADS = 256;

// The steps; each may be absent.
struct Preparation {
    // For all columns.
    const float* bias;
    Norm query_norm, key_norm;
    // The tables, `[positions, half]`, and the position of each token.
    const float* cos;
    const float* sin;
    const int* positions;
    int query_heads, kv_heads, width, half;

    __device__ __forceinline__ int heads() const { return query_heads + 2 * kv_heads; }
    __device__ __forceinline__ int rotated_heads() const { return query_heads + kv_heads; }
    __device__ __forceinline__ int64_t table_offset(int64_t token) const {
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

// For heads of up to two vectors per lane. blockDim.x lanes, a power of two, share a head. A lane has both vectors that
// are rotated against each other.
template <typename T>
__device__ __forceinline__ void prepare_heads(T* qkv, const Preparation& preparation, int tokens) {
    constexpr int SIZE = Vector<T>::SIZE;
    // Without a bias the heads of the values do not change.
    const unsigned heads = preparation.bias ? preparation.heads() : preparation.rotated_heads();
    const unsigned task = blockIdx.x * blockDim.y + threadIdx.y;
    // All lanes of a warp take part in the sums.
    const bool active = task < tokens * heads;
    const int64_t token = active ? task / heads : 0;
    const int head = active ? task % heads : 0;
    const bool is_query = head < preparation.query_heads, is_rotated = head < preparation.rotated_heads();
    const int half = is_rotated ? preparation.half : 0, slot = threadIdx.x, pairs = half / SIZE;
    const int first = slot < pairs ? slot : 2 * slot, second = slot < pairs ? slot + pairs : 2 * slot + 1;
    const bool has_first = active && first * SIZE < preparation.width, has_second = active && second * SIZE < preparation.width;

    T* const head_values = qkv + (token * preparation.heads() + head) * preparation.width;
    float a[SIZE] = {}, b[SIZE] = {};
    if (has_first) load_chunk(a, head_values + first * SIZE);
    if (has_second) load_chunk(b, head_values + second * SIZE);
    if (preparation.bias) {
        const float* const bias = preparation.bias + head * preparation.width;
        if (has_first) add_chunk(a, bias, first * SIZE);
        if (has_second) add_chunk(b, bias, second * SIZE);
    }
    const Norm& norm = is_query ? preparation.query_norm : preparation.key_norm;
    if (norm.kind != NORM_NONE) {
        const auto sum = [&](auto term) {
            float total = 0.0f;
            if (has_first)
                for (int i = 0; i < SIZE; i++) total += term(a[i]);
            if (has_second)
                for (int i = 0; i < SIZE; i++) total += term(b[i]);
            for (int distance = blockDim.x / 2; distance > 0; distance /= 2)
                total += __shfl_xor_sync(ALL_LANES, total, distance);
            return total / preparation.width;
        };
        const float mean = norm.kind == NORM_LAYER ? sum([](float x) { return x; }) : 0.0f;
        const float variance = sum([&](float x) { return (x - mean) * (x - mean); });
        const float factor = 1.0f / sqrtf(variance + norm.epsilon);
        if (has_first && is_rotated) norm.scale(a, mean, factor, first * SIZE);
        if (has_second && is_rotated) norm.scale(b, mean, factor, second * SIZE);
    }
    if (active && slot < pairs) {
        const int64_t at = preparation.table_offset(token) + slot * SIZE;
        rotate(a, b, preparation.cos + at, preparation.sin + at);
    }
    if (has_first) store_chunk(head_values + first * SIZE, a);
    if (has_second) store_chunk(head_values + second * SIZE, b);
}

// For any heads, normalised one by one or `together`: a block has a token, with its queries and keys in shared memory.
template <typename T, int SIZE>
__device__ __forceinline__ void prepare_token(T* qkv, const Preparation& preparation, int together) {
    DYNAMIC_SHARED(memory);
    float* const shared = reinterpret_cast<float*>(memory);
    const int64_t token = blockIdx.x;
    const int width = preparation.width, rotated = preparation.rotated_heads() * width, all = preparation.heads() * width;
    const int step = blockDim.x * SIZE, from = threadIdx.x * SIZE;
    T* const token_values = qkv + token * all;
    for (int column = from; column < (preparation.bias ? all : rotated); column += step) {
        float values[SIZE];
        load_chunk(values, token_values + column);
        add_chunk(values, preparation.bias, column);
        if (column < rotated) store_chunk(shared + column, values);
        else store_chunk(token_values + column, values);
    }
    __syncthreads();
    if (preparation.query_norm.kind != NORM_NONE) {
        // Each warp has every n-th group of columns; together there are two groups, which the whole block shares.
        const int warps = together ? 1 : blockDim.x / WARP, groups = together ? 2 : preparation.rotated_heads();
        const int threads = together ? blockDim.x : WARP, thread = threadIdx.x % threads;
        for (int group = threadIdx.x / threads; group < groups; group += warps) {
            const bool is_query = together ? group == 0 : group < preparation.query_heads;
            const Norm& norm = is_query ? preparation.query_norm : preparation.key_norm;
            const int count = !together ? width : (is_query ? preparation.query_heads : preparation.kv_heads) * width;
            float* const values = shared + (!together ? group * width : is_query ? 0 : preparation.query_heads * width);
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
    const int half = preparation.half;
    const int64_t offset = preparation.table_offset(token);
    for (int column = from; column < rotated; column += step) {
        const int in_head = column % width;
        float values[SIZE], other[SIZE];
        load_chunk(values, shared + column);
        if (in_head < half) {
            load_chunk(other, shared + column + half);
            rotate(values, other, preparation.cos + offset + in_head, preparation.sin + offset + in_head);
        } else if (in_head < 2 * half) {
            load_chunk(other, shared + column - half);
            rotate(other, values, preparation.cos + offset + in_head - half, preparation.sin + offset + in_head - half);
        }
        store_chunk(token_values + column, values);
    }
}

}  // namespace

#define PARAMETERS(T)                                                                                                 \
    T *qkv, const float *bias, const float *query_weight, const float *query_bias, const float *key_weight,           \
        const float *key_bias, const float *cos, const float *sin, const int *positions, int query_heads,             \
        int kv_heads, int width, int half, int kind, float epsilon, int tokens
#define PREPARATION                                                                                                          \
    Preparation{bias,      Norm{kind, epsilon, query_weight, query_bias}, Norm{kind, epsilon, key_weight, key_bias}, cos,    \
         sin,       positions, query_heads, kv_heads, width, half}

#define ROTARY(T, suffix)                                                                            \
    KERNEL(rotary_heads_##suffix, THREADS, (PARAMETERS(T)), prepare_heads<T>(qkv, PREPARATION, tokens))       \
    KERNEL(rotary_vectors_##suffix, THREADS, (PARAMETERS(T), int together),                          \
           (prepare_token<T, Vector<T>::SIZE>(qkv, PREPARATION, together)))                                   \
    KERNEL(rotary_values_##suffix, THREADS, (PARAMETERS(T), int together), (prepare_token<T, 1>(qkv, PREPARATION, together)))

FOR_ELEMENTS(ROTARY)
