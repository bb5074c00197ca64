// Attention for heads of any width up to MAX_WIDTH, without tensor cores.
#pragma once

#include "attention.cuh"

namespace {

constexpr int MAX_WIDTH = 256;

// A warp computes one query of one head, 32 keys at a time: a lane has one key for the scores, and columns for the sums.
template <typename T>
__device__ __forceinline__ void attend_any_width(const T* __restrict__ qkv, const int* __restrict__ starts,
                                               const float* __restrict__ bias, T* __restrict__ out, int query_blocks,
                                               int kv_heads, float scale, int left, int right, int positions, int selection,
                                               int width) {
    SHARED_ARRAY(float, queries, WARPS * MAX_WIDTH);
    SHARED_ARRAY(float, weights_of_warps, WARPS * WARP);
    const int sequence = blockIdx.x / query_blocks, query_block = query_blocks - 1 - blockIdx.x % query_blocks;
    const int heads = gridDim.y, head = blockIdx.y, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int start = __ldg(starts + sequence), length = __ldg(starts + sequence + 1) - start;
    const int row = selection == SELECT_LAST ? length - 1 - warp : query_block * WARPS + warp;
    if (row < 0 || row >= length || (selection != SELECT_ALL && warp > 0)) return;
    const Head<T> of = head_of(qkv, start, head, heads, kv_heads, width);
    const AttentionSpan span{left, right, length};
    const int first_key = span.first(row), end_key = span.end(row);
    float* const query = queries + warp * MAX_WIDTH;
    float* const weights = weights_of_warps + warp * WARP;
    if (bias) bias += static_cast<int64_t>(head) * (2 * positions - 1) + positions - 1;

    for (int i = lane; i < width; i += WARP) query[i] = to_float(of.queries[of.row(row) + i]);
    __syncwarp();
    const bool vectors = has_vectors(qkv, width);
    float sums[MAX_WIDTH / WARP] = {};
    float before = -INFINITY, total = 0.0f;
    for (int key = first_key; key < end_key; key += WARP) {
        float score = -INFINITY;
        if (key + lane < end_key) {
            const T* const keys = of.keys + of.row(key + lane);
            score = 0.0f;
            if (vectors) {
                for (int i = 0; i < width; i += Vector<T>::SIZE) {
                    const Vector<T> part = load_vector(keys + i);
#pragma unroll
                    for (int j = 0; j < Vector<T>::SIZE; j++)
                        score = fmaf(query[i + j], to_float(part.values[j]), score);
                }
            } else {
                for (int i = 0; i < width; i++) score = fmaf(query[i], to_float(keys[i]), score);
            }
            score *= scale * LOG2_E;
            if (bias) score += bias[key + lane - row] * LOG2_E;
        }
        // fmaxf drops NaN; the difference below brings it back.
        float now = fmaxf(before, score);
#pragma unroll
        for (int distance = WARP / 2; distance > 0; distance /= 2)
            now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, distance));
        const float base = now == -INFINITY ? 0.0f : now;
        const float shrink = exp2f(before - base), weight = exp2f(score - base);
        before = now;
        total = fmaf(total, shrink, weight);
        weights[lane] = weight;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < MAX_WIDTH / WARP; i++) sums[i] *= shrink;
        for (int j = 0; j < min(WARP, end_key - key); j++) {
            const T* const values = of.values + of.row(key + j);
            const float weight_of_key = weights[j];
#pragma unroll
            for (int i = 0; i < MAX_WIDTH / WARP; i++)
                if (i * WARP + lane < width)
                    sums[i] = fmaf(weight_of_key, to_float(values[i * WARP + lane]), sums[i]);
        }
        __syncwarp();
    }
    const float inverse = 1.0f / warp_sum(total);
    const int64_t out_row = selection == SELECT_ALL ? start + row : sequence;
    T* const to = out + (out_row * heads + head) * width;
#pragma unroll
    for (int i = 0; i < MAX_WIDTH / WARP; i++)
        if (i * WARP + lane < width) to[i * WARP + lane] = from_float<T>(sums[i] * inverse);
}

}  // namespace
