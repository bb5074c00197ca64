// Pooling of token vectors to one vector per sequence, selected rows, and rows that are not finite.

#include "rows.cuh"

namespace {

constexpr int THREADS = 512;
constexpr float MIN_LENGTH = 1e-12f;

// As `Pooling` of the launch builder.
enum { CLS = 0, MEAN = 1, LAST = 2, LARGEST = 3, WEIGHTED_MEAN = 4, MEAN_SQRT_LENGTH = 5 };

struct Range {
    int first, end;
};

// The rows of a sequence; without `starts` every row is a sequence.
__device__ __forceinline__ Range rows_of(const int* starts, int sequence) {
    if (!starts) return {sequence, sequence + 1};
    return {__ldg(starts + sequence), __ldg(starts + sequence + 1)};
}

// The rows that are pooled: all but the `leading` ones, and always the last.
__device__ __forceinline__ Range pooled_rows(const int* starts, const int* leading, int sequence, int pooling) {
    Range range = rows_of(starts, sequence);
    const int last = range.end - 1;
    if (leading) range.first = min(range.first + max(0, __ldg(leading + sequence)), last);
    if (pooling == CLS) range.end = min(range.end, range.first + 1);
    if (pooling == LAST) range.first = max(range.first, last);
    return range;
}

// `skipped` rows of the sequence precede those that are pooled.
__device__ __forceinline__ float weight_of_sum(int pooling, float count, float skipped) {
    switch (pooling) {
        case MEAN: return 1.0f / count;
        // The weights go on behind the skipped rows: skipped + 1, skipped + 2, …
        case WEIGHTED_MEAN: return 2.0f / (count * (2.0f * skipped + count + 1.0f));
        case MEAN_SQRT_LENGTH: return 1.0f / sqrtf(count);
        default: return 1.0f;
    }
}

// A block has a sequence. Threads in x share the columns, a tile at a time; threads in y share the rows.
template <typename T, int SIZE>
__device__ __forceinline__ void pool(const T* __restrict__ x, const int* __restrict__ starts,
                                     const int* __restrict__ leading, float* __restrict__ out, int width,
                                     int dimensions, int pooling, int normalise) {
    SHARED_ARRAY(float, parts, THREADS * SIZE);
    const int columns = blockDim.x * SIZE, row_threads = blockDim.y, row_thread = threadIdx.y;
    const int thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    const Range rows = pooled_rows(starts, leading, blockIdx.x, pooling);
    const int start = rows_of(starts, blockIdx.x).first;
    const float weight =
        weight_of_sum(pooling, static_cast<float>(rows.end - rows.first), static_cast<float>(rows.first - start));
    float* const sequence_out = out + static_cast<int64_t>(blockIdx.x) * dimensions;
    float squares = 0.0f;
    for (int from = 0; from < dimensions; from += columns) {
        const int column = from + threadIdx.x * SIZE;
        float pooled[SIZE];
#pragma unroll
        for (int i = 0; i < SIZE; i++) pooled[i] = pooling == LARGEST ? -INFINITY : 0.0f;
        if (column < dimensions) {
            const T* of_row = x + static_cast<int64_t>(rows.first + row_thread) * width + column;
#pragma unroll 4
            for (int row = rows.first + row_thread; row < rows.end; row += row_threads) {
                float values[SIZE];
                load_chunk(values, of_row);
                of_row += static_cast<int64_t>(row_threads) * width;
                const float factor = pooling == WEIGHTED_MEAN ? static_cast<float>(row - start + 1) : 1.0f;
#pragma unroll
                for (int i = 0; i < SIZE; i++)
                    pooled[i] = pooling == LARGEST ? largest(pooled[i], values[i]) : fmaf(values[i], factor, pooled[i]);
            }
        }
        store_chunk(parts + thread * SIZE, pooled);
        __syncthreads();
        for (int at = thread; at < min(columns, dimensions - from); at += threads) {
            float total = parts[at];
            for (int other = 1; other < row_threads; other++) {
                const float part = parts[other * columns + at];
                total = pooling == LARGEST ? largest(total, part) : total + part;
            }
            total *= weight;
            squares = fmaf(total, total, squares);
            sequence_out[from + at] = total;
        }
        __syncthreads();
    }
    if (!normalise) return;
    // The order of the sum over the threads is fixed.
    parts[thread] = squares;
    __syncthreads();
    if (thread < WARP) {
        float sum = 0.0f;
        for (int i = thread; i < threads; i += WARP) sum += parts[i];
        sum = warp_sum(sum);
        if (thread == 0) parts[0] = sum;
    }
    __syncthreads();
    const float length = sqrtf(parts[0]);
    // NaN stays NaN.
    const float factor = 1.0f / (length < MIN_LENGTH ? MIN_LENGTH : length);
    for (int from = 0; from < dimensions; from += columns)
        for (int at = thread; at < min(columns, dimensions - from); at += threads) sequence_out[from + at] *= factor;
}

// Copies the first or the last row of every sequence.
template <typename T, int SIZE>
__device__ __forceinline__ void select_rows(const T* __restrict__ x, const int* __restrict__ starts, T* __restrict__ out,
                                          int sequences, int width, int last) {
    const int sequence = blockIdx.x * blockDim.y + threadIdx.y;
    if (sequence >= sequences) return;
    const Range rows = rows_of(starts, sequence);
    const T* const from = x + static_cast<int64_t>(last ? rows.end - 1 : rows.first) * width;
    T* const to = out + static_cast<int64_t>(sequence) * width;
    for (int column = threadIdx.x * SIZE; column < width; column += blockDim.x * SIZE) {
        if constexpr (SIZE == 1) to[column] = from[column];
        else store_vector(to + column, load_vector(from + column));
    }
}

// Flags the rows whose values are all finite; a warp has a row.
template <typename T, int SIZE>
__device__ __forceinline__ void flag_finite_rows(const T* __restrict__ x, unsigned* __restrict__ flags, int rows,
                                            int width) {
    const unsigned row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= static_cast<unsigned>(rows)) return;
    const T* const of_row = x + static_cast<int64_t>(row) * width;
    bool finite = true;
    for (int column = threadIdx.x * SIZE; column < width; column += WARP * SIZE) {
        float values[SIZE];
        load_chunk(values, of_row + column);
#pragma unroll
        for (int i = 0; i < SIZE; i++) finite = finite && fabsf(values[i]) < INFINITY;
    }
    finite = __all_sync(ALL_LANES, finite);
    if (threadIdx.x == 0) flags[row] = finite;
}

}  // namespace

#define POOLING(T, suffix, form, size)                                                                               \
    KERNEL(pooling_##form##_##suffix, THREADS,                                                                       \
           (const T* x, const int* starts, const int* leading, float* out, int width, int dimensions, int pooling,   \
            int normalise),                                                                                          \
           pool<T, size>(x, starts, leading, out, width, dimensions, pooling, normalise))                            \
    KERNEL(kept_rows_##form##_##suffix, THREADS,                                                                     \
           (const T* x, const int* starts, T* out, int sequences, int width, int last),                              \
           select_rows<T, size>(x, starts, out, sequences, width, last))                                               \
    KERNEL(finite_##form##_##suffix, THREADS, (const T* x, unsigned* flags, int rows, int width),                    \
           flag_finite_rows<T, size>(x, flags, rows, width))
#define POOLINGS(T, suffix)                      \
    POOLING(T, suffix, vectors, Vector<T>::SIZE) \
    POOLING(T, suffix, values, 1)

FOR_ELEMENTS(POOLINGS)
