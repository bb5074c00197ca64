// What both attention kernels share: the location of the heads in the packed batch, and the keys that a query sees.
#pragma once

#include "common.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr float LOG2_E = 1.4426950408889634f;

// The queries of each sequence whose contexts are computed; as `TokenSelection` of the launch builder.
enum { SELECT_ALL = 0, SELECT_FIRST = 1, SELECT_LAST = 2 };

// The queries, keys and values of a head of one sequence in the packed `[tokens, (query_heads + 2⋅kv_heads)⋅width]`.
template <typename T>
struct Head {
    const T* queries;
    const T* keys;
    const T* values;
    int stride;

    __device__ __forceinline__ int64_t row(int token) const { return static_cast<int64_t>(token) * stride; }
};

template <typename T>
__device__ __forceinline__ Head<T> head_of(const T* qkv, int start, int head, int heads, int kv_heads, int width) {
    const int stride = (heads + 2 * kv_heads) * width, shared = head / (heads / kv_heads);
    const T* const sequence = qkv + static_cast<int64_t>(start) * stride;
    const T* const keys = sequence + (heads + shared) * width;
    return {sequence + head * width, keys, keys + kv_heads * width, stride};
}

// The keys that queries see: from first(position) of the first query to end(position) of the last.
struct AttentionSpan {
    int left, right, length;

    __device__ __forceinline__ int first(int position) const { return left < 0 ? 0 : max(0, position - left); }
    __device__ __forceinline__ int end(int position) const { return right < 0 ? length : min(length, position + right + 1); }
};

}  // namespace
