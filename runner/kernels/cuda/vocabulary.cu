// The weights of a vocabulary's entries: of a tile of the products of tokens and entries, the largest per sequence and
// entry, and what SPLADE makes of it; then the entries above a threshold, in their order.

#include "common.cuh"

constexpr int THREADS = 256;

// out[sequence, first + column] = largest score of the sequence's tokens + bias, of which log(1 + relu()) if `weights`.
template <typename T>
__device__ __forceinline__ void largest_of_tokens(const T* scores, const int* starts, const float* bias, float* out,
                                                  int tile, int entries, int first, bool weights) {
    const int column = blockIdx.y * THREADS + threadIdx.x;
    const long long sequence = blockIdx.x;
    if (column >= tile) return;
    float value = -INFINITY;
    for (int token = starts[sequence]; token < starts[sequence + 1]; token++)
        value = largest(value, to_float(scores[static_cast<long long>(token) * tile + column]));
    value += bias[first + column];
    // What is no number stays none.
    if (weights) value = log1pf(value > 0.0f || value != value ? value : 0.0f);
    out[sequence * entries + first + column] = value;
}

#define LARGEST(type, suffix)                                                                                       \
    KERNEL(vocabulary_##suffix, THREADS,                                                                            \
           (const type* scores, const int* starts, const float* bias, float* out, int tile, int entries, int first, \
            int weights),                                                                                           \
           largest_of_tokens<type>(scores, starts, bias, out, tile, entries, first, weights != 0))
FOR_ELEMENTS(LARGEST)

// What is no number is kept, so that it shows.
__device__ __forceinline__ bool is_kept(float value, float threshold) { return !(value <= threshold); }

// counts[row] = entries of the row that are kept.
__device__ __forceinline__ void count_kept(const float* weights, int* counts, int entries, float threshold) {
    const float* const row = weights + static_cast<long long>(blockIdx.x) * entries;
    float count = 0.0f;
    for (int entry = threadIdx.x; entry < entries; entry += THREADS) count += is_kept(row[entry], threshold);
    count = block_sum(count);
    if (threadIdx.x == 0) counts[blockIdx.x] = static_cast<int>(count);
}
KERNEL(vocabulary_count, THREADS, (const float* weights, int* counts, int entries, float threshold),
       count_kept(weights, counts, entries, threshold))

// The kept entries of every row from offsets[row] on, by ascending entry.
__device__ __forceinline__ void write_kept(const float* weights, const int* offsets, int* indices, float* values,
                                           int entries, float threshold) {
    constexpr int WARPS = THREADS / WARP;
    SHARED_ARRAY(int, of_warps, WARPS);
    const float* const row = weights + static_cast<long long>(blockIdx.x) * entries;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    long long place = offsets[blockIdx.x];
    for (int first = 0; first < entries; first += THREADS) {
        const int entry = first + threadIdx.x;
        const float value = entry < entries ? row[entry] : 0.0f;
        const bool kept = entry < entries && is_kept(value, threshold);
        const unsigned lanes = __ballot_sync(ALL_LANES, kept);
        if (lane == 0) of_warps[warp] = __popc(lanes);
        __syncthreads();
        int before = __popc(lanes & ((1u << lane) - 1));
        int all = 0;
        for (int other = 0; other < WARPS; other++) {
            if (other < warp) before += of_warps[other];
            all += of_warps[other];
        }
        if (kept) {
            indices[place + before] = entry;
            values[place + before] = value;
        }
        place += all;
        __syncthreads();
    }
}
KERNEL(vocabulary_compact, THREADS,
       (const float* weights, const int* offsets, int* indices, float* values, int entries, float threshold),
       write_kept(weights, offsets, indices, values, entries, threshold))
