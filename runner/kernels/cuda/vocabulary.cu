// Scores of vocabulary entries to sparse vectors: the largest of a sequence, then the entries that have a weight.

#include "rows.cuh"

namespace {

// The largest scores

constexpr int THREADS = 256;
constexpr int ENTRY_THREADS = 32;
constexpr int TURNS = THREADS / ENTRY_THREADS;

// A block has some entries and a sequence, each row of threads every TURNS-th token.
template <typename T, int SIZE>
__device__ __forceinline__ void largest_scores(const T* __restrict__ scores, const int* __restrict__ starts,
                                               const float* __restrict__ bias, float* __restrict__ out, int tile,
                                               int64_t stride, int64_t entries, int blocks, int logarithm) {
    constexpr int COLUMNS = ENTRY_THREADS * SIZE;
    SHARED_ARRAY(float, parts, THREADS * SIZE);
    const int sequence = blockIdx.x / blocks, from = blockIdx.x % blocks * COLUMNS;
    const int first = __ldg(starts + sequence), end = __ldg(starts + sequence + 1);
    const int column = from + threadIdx.x * SIZE, thread = threadIdx.y * ENTRY_THREADS + threadIdx.x;
    float found[SIZE];
#pragma unroll
    for (int i = 0; i < SIZE; i++) found[i] = -INFINITY;
    if (column < tile) {
        const T* of_token = scores + (first + threadIdx.y) * stride + column;
#pragma unroll 4
        for (int token = first + threadIdx.y; token < end; token += TURNS) {
            float values[SIZE];
            load_chunk(values, of_token);
            of_token += TURNS * stride;
#pragma unroll
            for (int i = 0; i < SIZE; i++) found[i] = largest(found[i], values[i]);
        }
    }
    store_chunk(parts + thread * SIZE, found);
    __syncthreads();
    for (int at = thread; at < min(COLUMNS, tile - from); at += THREADS) {
        float score = parts[at];
#pragma unroll
        for (int turn = 1; turn < TURNS; turn++) score = largest(score, parts[turn * COLUMNS + at]);
        if (bias) score += __ldg(bias + from + at);
        // NaN stays NaN.
        if (logarithm) score = score < 0.0f ? 0.0f : log1pf(score);
        out[sequence * entries + from + at] = score;
    }
}

// Sparse vectors

// A number whose order is that of the values, NaN aside.
__device__ __forceinline__ unsigned rank_of(float value) {
    const unsigned bits = __float_as_uint(value);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The sum of the values of the threads before this one, and `total`, of all of them. Every thread of a block of THREADS
// has to call it.
__device__ __forceinline__ unsigned sum_before(unsigned value, unsigned& total) {
    SHARED_ARRAY(unsigned, of_warps, THREADS / WARP);
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    unsigned sum = value;
#pragma unroll
    for (int distance = 1; distance < WARP; distance *= 2) {
        const unsigned other = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += other;
    }
    if (lane == WARP - 1) of_warps[warp] = sum;
    __syncthreads();
    unsigned before = 0;
    total = 0;
#pragma unroll
    for (int i = 0; i < THREADS / WARP; i++) {
        if (i == warp) before = total;
        total += of_warps[i];
    }
    __syncthreads();
    return before + sum - value;
}

constexpr int PER_THREAD = 4;

// Calls f(first entry, values, their number) for all of a row's entries, PER_THREAD at a time by turns over the
// threads; every thread is called equally often.
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

// Which entries are kept: those above the threshold, and of these those whose rank is above `rank`, and the first
// `ties` of those that have it. Two numbers per row.
struct Cut {
    unsigned rank, ties;
};

// How many entries a row keeps, where its cut is, and whether it is finite. A block has a row.
__device__ __forceinline__ void count_entries(const float* __restrict__ weights, unsigned* __restrict__ counts,
                                              unsigned* __restrict__ cuts, unsigned* __restrict__ finite, int entries,
                                              float threshold, unsigned most) {
    constexpr int DIGITS = 256;
    static_assert(DIGITS == THREADS);
    SHARED_ARRAY(unsigned, histogram, DIGITS);
    SHARED_ARRAY(unsigned, chosen, 2);
    const float* const row = weights + static_cast<int64_t>(blockIdx.x) * entries;
    unsigned above = 0, broken = 0;
    for_entries(row, entries, [&](int, const float(&values)[PER_THREAD], int count) {
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            if (i < count && values[i] > threshold) above++;
            if (!(fabsf(values[i]) < INFINITY)) broken++;
        }
    });
    unsigned total, total_broken;
    sum_before(above, total);
    sum_before(broken, total_broken);
    Cut cut{0, 0};
    if (most == 0) {
        cut.rank = ~0u;
        total = 0;
    } else if (total > most) {
        // Digit by digit from the highest: the digit of the entry that is the last to be kept.
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
            const unsigned before = sum_before(with_digit, all);
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
        if (finite) finite[blockIdx.x] = total_broken == 0;
    }
}

// Where the entries of each row start, and where the last ones end. One block.
__device__ __forceinline__ void sum_counts(const unsigned* __restrict__ counts, int64_t* __restrict__ offsets,
                                           int rows) {
    int64_t sum = 0;
    for (int from = 0; from < rows; from += THREADS) {
        const int row = from + threadIdx.x;
        const unsigned count = row < rows ? counts[row] : 0;
        // A sum of as many counts needs more than 32 bits: lower and upper halves apart.
        unsigned low_total, high_total;
        const unsigned low = sum_before(count & 0xffff, low_total), high = sum_before(count >> 16, high_total);
        if (row < rows) offsets[row] = sum + low + (static_cast<int64_t>(high) << 16);
        sum += low_total + (static_cast<int64_t>(high_total) << 16);
    }
    if (threadIdx.x == 0) offsets[rows] = sum;
}

// The kept entries of every row by ascending index, as far as there is place for them. A block has a row.
__device__ __forceinline__ void write_entries(const float* __restrict__ weights, const unsigned* __restrict__ cuts,
                                              const int64_t* __restrict__ offsets, unsigned* __restrict__ indices,
                                              float* __restrict__ values_out, int entries, float threshold,
                                              int64_t capacity) {
    const float* const row = weights + static_cast<int64_t>(blockIdx.x) * entries;
    const Cut cut{__ldg(cuts + 2 * blockIdx.x), __ldg(cuts + 2 * blockIdx.x + 1)};
    int64_t next = __ldg(offsets + blockIdx.x);
    unsigned ties_before = 0;
    for_entries(row, entries, [&](int entry, const float(&values)[PER_THREAD], int count) {
        // Bit i: entry i is kept in any case; or it is if there are not too many before it.
        unsigned kept = 0, ties = 0;
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const bool above = i < count && values[i] > threshold;
            const unsigned rank = rank_of(values[i]);
            if (above && rank > cut.rank) kept |= 1u << i;
            if (above && rank == cut.rank) ties |= 1u << i;
        }
        unsigned total;
        const unsigned before = sum_before(__popc(kept) | __popc(ties) << 16, total);
        const unsigned tie = ties_before + (before >> 16);
        int64_t at = next + (before & 0xffff) + min(tie, cut.ties) - min(ties_before, cut.ties);
        unsigned of_ties = tie;
#pragma unroll
        for (int i = 0; i < PER_THREAD; i++) {
            const bool is_tie = ties >> i & 1, keep = (kept >> i & 1) || (is_tie && of_ties < cut.ties);
            if (is_tie) of_ties++;
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
