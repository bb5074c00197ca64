// Rows of embedding tables, gathered by index and summed, scaled, normalised. A warp per token.

#include "common.cuh"

constexpr int ROWS = 4;  // of a block, one per warp

template <typename T>
__device__ __forceinline__ void embed(const T* words, const int* ids, const T* positions, const int* position_indices,
                                      const T* types, const int* type_indices, const float* weight, const float* bias,
                                      T* out, long long tokens, int width, float scale, float epsilon, int centre) {
    const long long token = static_cast<long long>(blockIdx.x) * ROWS + threadIdx.x / WARP;
    if (token >= tokens) return;
    const T* const word = words + static_cast<long long>(ids[token]) * width;
    const T* const position = positions ? positions + static_cast<long long>(position_indices[token]) * width : nullptr;
    const T* const type = types ? types + static_cast<long long>(type_indices[token]) * width : nullptr;
    const auto value = [&](int column) {
        float sum = to_float(word[column]);
        if (position) sum += to_float(position[column]);
        if (type) sum += to_float(type[column]);
        return sum * scale;
    };
    const int lane = threadIdx.x % WARP;
    float mean = 0.0f, inverse = 1.0f;
    if (weight) {
        if (centre) {
            for (int column = lane; column < width; column += WARP) mean += value(column);
            mean = warp_sum(mean) / width;
        }
        float squares = 0.0f;
        for (int column = lane; column < width; column += WARP) {
            const float difference = value(column) - mean;
            squares += difference * difference;
        }
        inverse = 1.0f / sqrtf(warp_sum(squares) / width + epsilon);
    }
    for (int column = lane; column < width; column += WARP) {
        float result = value(column);
        if (weight) {
            result = (result - mean) * inverse * weight[column];
            if (bias) result += bias[column];
        }
        out[token * width + column] = from_float<T>(result);
    }
}

#define EMBEDDING(type, suffix)                                                                                    \
    KERNEL(embedding_##suffix, ROWS* WARP,                                                                         \
           (const type* words, const int* ids, const type* positions, const int* position_indices,                 \
            const type* types, const int* type_indices, const float* weight, const float* bias, type* out,         \
            long long tokens, int width, float scale, float epsilon, int centre),                                  \
           embed<type>(words, ids, positions, position_indices, types, type_indices, weight, bias, out, tokens,    \
                       width, scale, epsilon, centre))
FOR_ELEMENTS(EMBEDDING)
