// Top-k: merges a tile of scores into the best candidates of every query so far.

#include "rows.cuh"

namespace {

constexpr int THREADS = 128;
constexpr int MAX_CANDIDATES = 1024;
// The most candidates that wait to be merged.
constexpr unsigned MAX_PENDING = 2048;

// A candidate as a number that is larger for a better candidate: by descending score, equal scores by ascending ordinal.
// NaN comes before all numbers.
__device__ __forceinline__ uint64_t candidate_of(float score, unsigned ordinal) {
    const unsigned bits = __float_as_uint(score);
    const unsigned rank = score != score ? ~0u : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return static_cast<uint64_t>(rank) << 32 | ~ordinal;
}
__device__ __forceinline__ float score_of(uint64_t candidate) {
    const unsigned rank = static_cast<unsigned>(candidate >> 32);
    return __uint_as_float(rank & 0x80000000u ? rank & 0x7fffffffu : ~rank);
}
__device__ __forceinline__ unsigned ordinal_of(uint64_t candidate) { return ~static_cast<unsigned>(candidate); }

__device__ __forceinline__ int power_of_two(int least) {
    int power = 1;
    while (power < least) power *= 2;
    return power;
}

// A step of a bitonic sort: puts pairs of places at a `distance` in descending order, or in ascending order within every
// other run of `run` places.
__device__ __forceinline__ void bitonic_step(uint64_t* places, int count, int distance, int run) {
    for (int pair = threadIdx.x; pair < count / 2; pair += THREADS) {
        const int first = 2 * pair - (pair & (distance - 1)), second = first + distance;
        const uint64_t a = places[first], b = places[second];
        if ((a < b) == ((first & run) == 0)) {
            places[first] = b;
            places[second] = a;
        }
    }
    __syncthreads();
}

// Sorts the `pending` candidates and merges them into the `best`, both descending; `kept` is a power of two.
__device__ __forceinline__ void merge(uint64_t* best, int kept, uint64_t* pending, int filled) {
    const int count = power_of_two(filled);
    for (int i = filled + threadIdx.x; i < count; i += THREADS) pending[i] = 0;
    __syncthreads();
    for (int run = 2; run <= count; run *= 2)
        for (int distance = run / 2; distance > 0; distance /= 2) bitonic_step(pending, count, distance, run);
    // The pairwise larger of both lists, one read from its end, rise and fall: half a bitonic sort orders them.
    for (int i = threadIdx.x; i < min(count, kept); i += THREADS) {
        uint64_t& place = best[kept - 1 - i];
        if (place < pending[i]) place = pending[i];
    }
    __syncthreads();
    for (int distance = kept / 2; distance > 0; distance /= 2) bitonic_step(best, kept, distance, 0);
}

// Loads up to SIZE scores from `at` on.
template <typename T, int SIZE>
__device__ __forceinline__ void load_scores(float (&scores)[SIZE], const T* row, int at, int count) {
    if (at + SIZE <= count) {
        load_chunk(scores, row + at);
    } else {
#pragma unroll
        for (int i = 0; i < SIZE; i++)
            if (at + i < count) scores[i] = to_float(row[at + i]);
    }
}

// Merges a tile of scores into the list of a query; a block has a query.
template <typename T, int SIZE>
__device__ __forceinline__ void merge_tile(const T* __restrict__ scores, float* __restrict__ values,
                                           unsigned* __restrict__ ordinals, int count, int64_t stride, unsigned first,
                                           int most) {
    static_assert(THREADS * SIZE <= MAX_PENDING);
    SHARED_ARRAY(uint64_t, best, MAX_CANDIDATES);
    SHARED_ARRAY(uint64_t, pending, MAX_PENDING);
    SHARED_ARRAY(unsigned, filled, 1);
    const T* const row = scores + blockIdx.x * stride;
    values += static_cast<int64_t>(blockIdx.x) * most;
    ordinals += static_cast<int64_t>(blockIdx.x) * most;
    const int kept = power_of_two(most);
    for (int i = threadIdx.x; i < kept; i += THREADS) best[i] = i < most ? candidate_of(values[i], ordinals[i]) : 0;
    if (threadIdx.x == 0) filled[0] = 0;
    __syncthreads();
    uint64_t threshold = best[most - 1];
    unsigned pending_count = 0;
    bool changed = false;
    float next[SIZE] = {};
    load_scores(next, row, threadIdx.x * SIZE, count);
    for (int from = 0; from < count; from += THREADS * SIZE) {
        const int at = from + threadIdx.x * SIZE;
        float current[SIZE];
#pragma unroll
        for (int i = 0; i < SIZE; i++) current[i] = next[i];
        load_scores(next, row, at + THREADS * SIZE, count);
        if (pending_count + THREADS * SIZE > MAX_PENDING) {
            merge(best, kept, pending, pending_count);
            threshold = best[most - 1];
            changed = true;
            if (threadIdx.x == 0) filled[0] = 0;
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < SIZE; i++) {
            const uint64_t candidate = candidate_of(current[i], first + at + i);
            if (at + i < count && candidate > threshold) pending[atomicAdd(&filled[0], 1u)] = candidate;
        }
        __syncthreads();
        pending_count = filled[0];
        __syncthreads();
    }
    if (pending_count > 0) merge(best, kept, pending, pending_count);
    if (pending_count == 0 && !changed) return;
    for (int i = threadIdx.x; i < most; i += THREADS) {
        values[i] = score_of(best[i]);
        ordinals[i] = ordinal_of(best[i]);
    }
}

__device__ __forceinline__ void start(float* values, unsigned* ordinals, int64_t count) {
    const int64_t at = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    if (at >= count) return;
    values[at] = -INFINITY;
    ordinals[at] = ~0u;
}

}  // namespace

#define MERGE(T, suffix, form, size)                                                                                \
    KERNEL(top_k_##form##_##suffix, THREADS,                                                                        \
           (const T* scores, float* values, unsigned* ordinals, int count, int64_t stride, unsigned first, int most), \
           merge_tile<T, size>(scores, values, ordinals, count, stride, first, most))
#define MERGES(T, suffix)                      \
    MERGE(T, suffix, vectors, Vector<T>::SIZE) \
    MERGE(T, suffix, values, 1)

FOR_ELEMENTS(MERGES)

KERNEL(top_k_start, THREADS, (float* values, unsigned* ordinals, int64_t count), start(values, ordinals, count))
