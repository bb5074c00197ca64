// Token vectors to one vector per sequence, cut and scaled to length 1. A block per sequence; its warps share the tokens.

#include "common.cuh"

constexpr int WARPS = 8;              // of a block
constexpr int COLUMNS = 4;            // of a lane
constexpr int TILE = COLUMNS * WARP;  // columns that are pooled at a time

// As `Pooling` of the crate.
enum class Pooling { First, Last, Mean, MeanSqrtLength, WeightedMean, Max };

template <typename T>
__device__ __forceinline__ void pool(const T* hidden, const int* starts, const int* skipped, float* out, int width,
                                     int dimensions, Pooling pooling, bool normalise, float least_length) {
    DYNAMIC_SHARED(memory);
    float* const pooled = reinterpret_cast<float*>(memory);  // [dimensions]
    SHARED_ARRAY(float, parts, WARPS * TILE);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const long long sequence = blockIdx.x;
    int begin = starts[sequence];
    const int end = starts[sequence + 1];
    // At least the last token is left.
    if (skipped) begin += min(skipped[sequence], end - begin - 1);
    const float count = static_cast<float>(end - begin);
    const int first = pooling == Pooling::Last ? end - 1 : begin;
    const int last = pooling == Pooling::First ? begin + 1 : end;
    const bool maximum = pooling == Pooling::Max;
    for (int tile = 0; tile < dimensions; tile += TILE) {
        float values[COLUMNS];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) values[i] = maximum ? -INFINITY : 0.0f;
        for (int token = first + warp; token < last; token += WARPS) {
            const float weight = pooling == Pooling::WeightedMean ? static_cast<float>(token - begin + 1) : 1.0f;
            const T* const row = hidden + static_cast<long long>(token) * width;
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) {
                const int column = tile + i * WARP + lane;
                if (column >= dimensions) continue;
                const float value = to_float(row[column]);
                values[i] = maximum ? largest(values[i], value) : values[i] + weight * value;
            }
        }
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) parts[warp * TILE + i * WARP + lane] = values[i];
        __syncthreads();
        for (int column = threadIdx.x; column < TILE; column += WARPS * WARP) {
            if (tile + column >= dimensions) break;
            float value = parts[column];
            for (int other = 1; other < WARPS; other++) {
                const float more = parts[other * TILE + column];
                value = maximum ? largest(value, more) : value + more;
            }
            if (pooling == Pooling::Mean) value /= count;
            if (pooling == Pooling::MeanSqrtLength) value /= sqrtf(count);
            if (pooling == Pooling::WeightedMean) value *= 2.0f / (count * (count + 1.0f));
            pooled[tile + column] = value;
        }
        __syncthreads();
    }
    float scale = 1.0f;
    if (normalise) {
        float squares = 0.0f;
        for (int column = threadIdx.x; column < dimensions; column += WARPS * WARP) squares += pooled[column] * pooled[column];
        const float length = sqrtf(block_sum(squares));
        // What is no number stays none.
        scale = 1.0f / (length < least_length ? least_length : length);
    }
    for (int column = threadIdx.x; column < dimensions; column += WARPS * WARP)
        out[sequence * dimensions + column] = pooled[column] * scale;
}

#define POOLING(type, suffix)                                                                                     \
    KERNEL(pooling_##suffix, WARPS* WARP,                                                                         \
           (const type* hidden, const int* starts, const int* skipped, float* out, int width, int dimensions,     \
            int pooling, int normalise, float least_length),                                                      \
           pool<type>(hidden, starts, skipped, out, width, dimensions, static_cast<Pooling>(pooling),             \
                      normalise != 0, least_length))
FOR_ELEMENTS(POOLING)
