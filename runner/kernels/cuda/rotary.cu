// What stands between the packed product of queries, keys and values and the attention: the bias, norms of the heads of
// queries and keys, their rotation by position. A block per token, a warp per head or per group of heads with one norm.

#include "common.cuh"

constexpr int WARPS = 4;  // of a block

// The norm of a group; the weight is absent where there is none.
struct GroupNorm {
    const float* weight;
    const float* bias;
    float epsilon;
    int heads;  // of a group
};

template <typename T>
__device__ __forceinline__ void place_group(T* values, const float* bias, int width, int heads, const float* weight,
                                            const float* norm_bias, float epsilon, int centre, const float* cos,
                                            const float* sin, int half) {
    const int lane = threadIdx.x % WARP, count = width * heads;
    const auto summed = [&](int column) { return to_float(values[column]) + (bias ? bias[column] : 0.0f); };
    float mean = 0.0f, scale = 1.0f;
    if (weight) {
        if (centre) {
            for (int column = lane; column < count; column += WARP) mean += summed(column);
            mean = warp_sum(mean) / count;
        }
        float squares = 0.0f;
        for (int column = lane; column < count; column += WARP) {
            const float difference = summed(column) - mean;
            squares += difference * difference;
        }
        scale = 1.0f / sqrtf(warp_sum(squares) / count + epsilon);
    }
    const auto normal = [&](int column) {
        const float value = summed(column);
        if (!weight) return value;
        const float scaled = (value - mean) * scale * weight[column];
        return norm_bias ? scaled + norm_bias[column] : scaled;
    };
    // Each lane reads and writes the pairs that are its own.
    const int pairs = half, rest = width - 2 * half;
    for (int index = lane; index < heads * pairs; index += WARP) {
        const int head = index / pairs, i = index % pairs, one = head * width + i, other = one + half;
        const float a = normal(one), b = normal(other);
        values[one] = from_float<T>(a * cos[i] - b * sin[i]);
        values[other] = from_float<T>(b * cos[i] + a * sin[i]);
    }
    if (!weight && !bias) return;
    for (int index = lane; index < heads * rest; index += WARP) {
        const int column = index / rest * width + 2 * half + index % rest;
        values[column] = from_float<T>(normal(column));
    }
}

template <typename T>
__device__ __forceinline__ void place_token(T* qkv, const float* bias, int query_heads, int key_value_heads, int width,
                                            GroupNorm query, GroupNorm key, int centre, const float* cos,
                                            const float* sin, const int* positions, int half) {
    const long long token = blockIdx.x;
    const int heads = query_heads + 2 * key_value_heads;
    T* const row = qkv + token * heads * width;
    if (half > 0) {
        const long long at = static_cast<long long>(positions[token]) * half;
        cos += at;
        sin += at;
    }
    const int queries = query_heads / query.heads, keys = key_value_heads / key.heads;
    for (int group = threadIdx.x / WARP; group < queries + keys + key_value_heads; group += WARPS) {
        if (group < queries) {
            const int first = group * query.heads * width;
            place_group(row + first, bias ? bias + first : nullptr, width, query.heads, query.weight, query.bias,
                        query.epsilon, centre, cos, sin, half);
        } else if (group < queries + keys) {
            const int first = (query_heads + (group - queries) * key.heads) * width;
            place_group(row + first, bias ? bias + first : nullptr, width, key.heads, key.weight, key.bias, key.epsilon,
                        centre, cos, sin, half);
        } else if (bias) {
            const int first = (query_heads + key_value_heads + group - queries - keys) * width;
            place_group<T>(row + first, bias + first, width, 1, nullptr, nullptr, 0.0f, 0, nullptr, nullptr, 0);
        }
    }
}

#define PLACE(type, suffix)                                                                                          \
    KERNEL(place_##suffix, WARPS* WARP,                                                                              \
           (type* qkv, const float* bias, const float* query_weight, const float* query_bias,                        \
            const float* key_weight, const float* key_bias, const float* cos, const float* sin,                      \
            const int* positions, int query_heads, int key_value_heads, int width, int query_group, int key_group,   \
            float query_epsilon, float key_epsilon, int centre, int half),                                           \
           place_token<type>(qkv, bias, query_heads, key_value_heads, width,                                         \
                             GroupNorm{query_weight, query_bias, query_epsilon, query_group},                        \
                             GroupNorm{key_weight, key_bias, key_epsilon, key_group}, centre, cos, sin, positions,   \
                             half))
FOR_ELEMENTS(PLACE)
