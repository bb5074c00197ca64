// Sparse vectors from scores of vocabulary entries: the largest score of a sequence, then the entries with a weight.

#include "rows.cuh"

namespace {

// The largest scores

constexpr int THREADS = 256;
constexpr int ENTRY_THREADS = 32;
constexpr int TOKEN_THREADS = THREADS / ENTRY_THREADS;

// A block has some entries of a sequence. Threads in x share the entries, threads in y share the tokens.
template <typename T, int SIZE>
__device__ __forceinline__ void largest_scores(const T* __restrict__ scores, const int* __restrict__ starts,
                                               const float* __restrict__ bias, float* __restrict__ out, int tile,
                                               int64_t stride, int64_t entries, int blocks, int logarithm) {
    constexpr int COLUMNS = ENTRY_THREADS * SIZE;
    SHARED_ARRAY(float, parts, THREADS * SIZE);
    const int sequence = blockIdx.x / blocks, from = blockIdx.x % blocks * COLUMNS;
    const int first = __ldg(starts + sequence), end = __ldg(starts + sequence + 1);
    const int column = from + threadIdx.x * SIZE, thread = threadIdx.y * ENTRY_THREADS + threadIdx.x;
    float maxima[SIZE];
#pragma unroll
    for (int i = 0; i < SIZE; i++) maxima[i] = -INFINITY;
    if (column < tile) {
        const T* token_scores = scores + (first + threadIdx.y) * stride + column;
#pragma unroll 4
        for (int token = first + threadIdx.y; token < end; token += TOKEN_THREADS) {
            float values[SIZE];
            load_chunk(values, token_scores);
            token_scores += TOKEN_THREADS * stride;
#pragma unroll
            for (int i = 0; i < SIZE; i++) maxima[i] = largest(maxima[i], values[i]);
        }
    }
    store_chunk(parts + thread * SIZE, maxima);
    __syncthreads();
    for (int at = thread; at < min(COLUMNS, tile - from); at += THREADS) {
        float score = parts[at];
#pragma unroll
        for (int part = 1; part < TOKEN_THREADS; part++) score = largest(score, parts[part * COLUMNS + at]);
        if (bias) score += __ldg(bias + from + at);
        // NaN stays NaN.
        if (logarithm) score = score < 0.0f ? 0.0f : log1pf(score);
        out[sequence * entries + from + at] = score;
    }
}

// Sparse vectors

// An unsigned number with the order of the values, except NaN.
__device__ __forceinline__ unsigned rank_of(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The exclusive prefix sum of `value` over the threads of a block of THREADS, and the `total`. Every thread has to call
// it.
__device__ __forceinline__ unsigned prefix_sum(unsigned value, unsigned& total) {
    SHARED_ARRAY(unsigned, warp_sums, THREADS / WARP);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    unsigned sum = value;
#pragma unroll
    for (int distance = 1; distance < WARP; distance *= 2) {
        const unsigned other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == WARP - 1) warp_sums[warp] = sum;
    __syncthreads();
    unsigned before = 0;
    total = 0;
#pragma unroll
    for (int i = 0; i < THREADS / WARP; i++) {
        if (i == warp) before = total;
        total += warp_sums[i];
    }
    __syncthreads();
    return before + sum - value;
}

constexpr int PER_THREAD = 4;

// Calls f(first entry, values, their number) for all entries of a row. Each thread gets PER_THREAD entries at a time and
// the same number of calls.
template <typename F>
__device__ __forceinline__ void for_entries(const float* row, int entries, F f) {
    const bool vectors = is_aligned(row);
    for (int from = 0; from < entries; from += THREADS * PER_THREAD) {
        const int entry = from + threadIdx.x * PER_THREAD, count = min(PER_THREAD, max(0, entries - entry));
        float values[PER_THREAD] = {};
        if (vectors && count == PER_THREAD) {
            load_chunk(values, row + entry);
        } else {
#pragma unroll
            for (int i = 0; i < PER_THREAD; i++)
                if (i < count) values[i] = row[entry + i];
        }
        f(entry, values, count);
    }
}

// The entries that a row keeps: of the entries above the threshold, those with a rank above `rank`, and the first `ties`
// of those with this rank. Two numbers per row.
struct Cut {
    unsigned rank, ties;
};

// Counts the entries that a row keeps, finds its cut, and checks that it is finite. A block has a row.
__device__ __forceinline__ void count_entries(const float* __restrict__ weights, unsigned* __restrict__ counts,
                                              unsigned* __restrict__ cuts, unsigned* __restrict__ finite, int entries,
                                              float threshold, unsigned most) {
    constexpr int DIGITS = 256;
    static_assert(DIGITS == THREADS);
    SHARED_ARRAY(unsigned, histogram, DIGITS);
    SHARED_ARRAY(unsigned, chosen, 2);
    const float* const row = weights + static_cast<int64_t>(blockIdx.x) * entries;
    unsigned above = 0, not_finite = 0;
    for_entries(row, entries, [&](int, const float(&values)[PER_THREAD], int count) {
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            if (i < count && values[i] > threshold) above++;
            if (!(fabsf(values[i]) < INFINITY)) not_finite++;
        }
    });
    unsigned total, total_not_finite;
    prefix_sum(above, total);
    prefix_sum(not_finite, total_not_finite);
    Cut cut{0, 0};
    if (most == 0) {
        cut.rank = ~0u;
        total = 0;
    } else if (total > most) {
        // A radix select, from the highest digit down: the digits of the smallest rank that is kept.
        unsigned left = most;
        for (int shift = 24; shift >= 0; shift -= 8) {
            histogram[threadIdx.x] = 0;
            __syncthreads();
            for_entries(row, entries, [&](int, const float(&values)[PER_THREAD], int count) {
#pragma unroll
                for (int i = 0; i < PER_THREAD; i++) {
                    const unsigned rank = rank_of(values[i]);
                    const bool same = shift == 24 || (rank ^ cut.rank) >> (shift + 8) == 0;
                    if (i < count && values[i] > threshold && same)
                        atomicAdd(&histogram[rank >> shift & (DIGITS - 1)], 1u);
                }
            });
            __syncthreads();
            const unsigned digit = DIGITS - 1 - threadIdx.x, with_digit = histogram[digit];
            unsigned all;
            const unsigned before = prefix_sum(with_digit, all);
            if (before < left && left <= before + with_digit) {
                chosen[0] = digit;
                chosen[1] = left - before;
            }
            __syncthreads();
            cut.rank |= chosen[0] << shift;
            left = chosen[1];
        }
        cut.ties = left;
        total = most;
    }
    if (threadIdx.x == 0) {
        counts[blockIdx.x] = total;
        cuts[2 * blockIdx.x] = cut.rank;
        cuts[2 * blockIdx.x + 1] = cut.ties;
        if (finite) finite[blockIdx.x] = total_not_finite == 0;
    }
}

// The exclusive prefix sums of the counts, and their total. One block.
__device__ __forceinline__ void sum_counts(const unsigned* __restrict__ counts, int64_t* __restrict__ offsets,
                                           int rows) {
    int64_t sum = 0;
    for (int from = 0; from < rows; from += THREADS) {
        const int row = from + threadIdx.x;
        const unsigned count = row < rows ? counts[row] : 0;
        // The sum of THREADS counts can exceed 32 bits: lower and upper halves are summed separately.
        unsigned low_total, high_total;
        const unsigned low = prefix_sum(count & 0xffff, low_total), high = prefix_sum(count >> 16, high_total);
        if (row < rows) offsets[row] = sum + low + (static_cast<int64_t>(high) << 16);
        sum += low_total + (static_cast<int64_t>(high_total) << 16);
    }
    if (threadIdx.x == 0) offsets[rows] = sum;
}

// Writes the kept entries of every row by ascending index, up to the capacity. A block has a row.
__device__ __forceinline__ void write_entries(const float* __restrict__ weights, const unsigned* __restrict__ cuts,
                                              const int64_t* __restrict__ offsets, unsigned* __restrict__ indices,
                                              float* __restrict__ values_out, int entries, float threshold,
                                              int64_t capacity) {
    const float* const row = weights + static_cast<int64_t>(blockIdx.x) * entries;
    const Cut cut{__ldg(cuts + 2 * blockIdx.x), __ldg(cuts + 2 * blockIdx.x + 1)};
    int64_t next = __ldg(offsets + blockIdx.x);
    unsigned ties_before = 0;
    for_entries(row, entries, [&](int entry, const float(&values)[PER_THREAD], int count) {
        // Bit i of `kept`: entry i is kept in any case. Bit i of `ties`: it is kept if few enough ties come before it.
        unsigned kept = 0, ties = 0;
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const bool above = i < count && values[i] > threshold;
            const unsigned rank = rank_of(values[i]);
            if (above && rank > cut.rank) kept |= 1u << i;
            if (above && rank == cut.rank) ties |= 1u << i;
        }
        unsigned total;
        const unsigned before = prefix_sum(__popc(kept) | __popc(ties) << 16, total);
        const unsigned tie = ties_before + (before >> 16);
        int64_t at = next + (before & 0xffff) + min(tie, cut.ties) - min(ties_before, cut.ties);
        unsigned tie_index = tie;
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const bool is_tie = ties >> i & 1, keep = (kept >> i & 1) || (is_tie && tie_index < cut.ties);
            if (is_tie) tie_index++;
            if (!keep) continue;
            if (at < capacity) {
                indices[at] = entry + i;
                values_out[at] = values[i];
            }
            at++;
        }
        const unsigned ties_now = ties_before + (total >> 16);
        next += (total & 0xffff) + min(ties_now, cut.ties) - min(ties_before, cut.ties);
        ties_before = ties_now;
    });
}

}  // namespace

#define LARGEST(T, suffix, form, size)                                                                              \
    KERNEL(vocabulary_##form##_##suffix, THREADS,                                                                   \
           (const T* scores, const int* starts, const float* bias, float* out, int tile, int64_t stride,            \
            int64_t entries, int blocks, int logarithm),                                                            \
           largest_scores<T, size>(scores, starts, bias, out, tile, stride, entries, blocks, logarithm))
#define LARGEST_SCORES(T, suffix)                \
    LARGEST(T, suffix, vectors, Vector<T>::SIZE) \
    LARGEST(T, suffix, values, 1)

FOR_ELEMENTS(LARGEST_SCORES)

KERNEL(sparse_count, THREADS,
       (const float* weights, unsigned* counts, unsigned* cuts, unsigned* finite, int entries, float threshold,
        unsigned most),
       count_entries(weights, counts, cuts, finite, entries, threshold, most))
KERNEL(sparse_offsets, THREADS, (const unsigned* counts, int64_t* offsets, int rows),
       sum_counts(counts, offsets, rows))
KERNEL(sparse_write, THREADS,
       (const float* weights, const unsigned* cuts, const int64_t* offsets, unsigned* indices, float* values,
        int entries, float threshold, int64_t capacity),
       write_entries(weights, cuts, offsets, indices, values, entries, threshold, capacity))
