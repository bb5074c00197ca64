// Rows in registers, spread over threads, and their normalisation.
#pragma once

#include "common.cuh"

// Chunks of SIZE neighbouring values: one value, or whole vectors.
template <int SIZE, typename T>
__device__ __forceinline__ void load_chunk(float (&values)[SIZE], const T* from) {
    if constexpr (SIZE == 1) {
        values[0] = to_float(*from);
    } else {
        constexpr int PART = Vector<T>::SIZE;
        static_assert(SIZE % PART == 0);
#pragma unroll
        for (int first = 0; first < SIZE; first += PART) {
            const Vector<T> part = load_written_vector(from + first);
#pragma unroll
            for (int i = 0; i < PART; i++) values[first + i] = to_float(part.values[i]);
        }
    }
}

template <int SIZE, typename T>
__device__ __forceinline__ void store_chunk(T* to, const float (&values)[SIZE]) {
    if constexpr (SIZE == 1) {
        *to = from_float<T>(values[0]);
    } else {
        constexpr int PART = Vector<T>::SIZE;
        static_assert(SIZE % PART == 0);
#pragma unroll
        for (int first = 0; first < SIZE; first += PART) {
            Vector<T> part;
#pragma unroll
            for (int i = 0; i < PART; i++) part.values[i] = from_float<T>(values[first + i]);
            store_vector(to + first, part);
        }
    }
}

// Adds the chunk at `from + offset`, unless `from` is null.
template <int SIZE, typename T>
__device__ __forceinline__ void add_chunk(float (&values)[SIZE], const T* from, int64_t offset) {
    if (!from) return;
    float other[SIZE];
    load_chunk(other, from + offset);
#pragma unroll
    for (int i = 0; i < SIZE; i++) values[i] += other[i];
}

// A normalisation, as `Norm` of the launch builder.
enum { NORM_NONE = 0, NORM_LAYER = 1, NORM_RMS = 2 };

struct Norm {
    int kind;
    float epsilon;
    const float* weight;
    // May be null.
    const float* bias;

    template <int SIZE>
    __device__ __forceinline__ void scale(float (&values)[SIZE], float mean, float factor, int column) const {
        float weights[SIZE];
        load_chunk(weights, weight + column);
#pragma unroll
        for (int i = 0; i < SIZE; i++) values[i] = (values[i] - mean) * factor * weights[i];
        add_chunk(values, bias, column);
    }
};

// `pointer + offset`, or null for a null pointer.
template <typename T>
__device__ __forceinline__ T* offset_or_null(T* pointer, int64_t offset) {
    return pointer ? pointer + offset : nullptr;
}

// A row in the registers of the threads of a block in x: each has every blockDim.x-th chunk.
template <int SIZE, int CHUNKS>
struct Row {
    float values[CHUNKS][SIZE];
    int width;

    // Calls f(chunk, its first column) for each of this thread's chunks.
    template <typename F>
    __device__ __forceinline__ void each(F f) {
#pragma unroll
        for (int i = 0; i < CHUNKS; i++) {
            const int column = static_cast<int>(threadIdx.x + i * blockDim.x) * SIZE;
            if (column < width) f(values[i], column);
        }
    }

    // Reads the row from `from`.
    template <typename T>
    __device__ __forceinline__ void load(const T* from) {
        each([&](float(&chunk)[SIZE], int column) { load_chunk(chunk, from + column); });
    }

    // Adds the row at `from`, unless that is null.
    template <typename T>
    __device__ __forceinline__ void add(const T* from) {
        if (from) each([&](float(&chunk)[SIZE], int column) { add_chunk(chunk, from, column); });
    }

    // Writes the row to `to`, unless that is null.
    template <typename T>
    __device__ __forceinline__ void store(T* to) {
        if (to) each([&](float(&chunk)[SIZE], int column) { store_chunk(to + column, chunk); });
    }

    // Every thread in x has to call it. Two passes: summing squared differences from the mean avoids cancellation.
    __device__ __forceinline__ void normalise(const Norm& norm) {
        float mean = 0.0f, squares = 0.0f;
        if (norm.kind == NORM_LAYER) {
            each([&](float(&chunk)[SIZE], int) {
#pragma unroll
                for (int i = 0; i < SIZE; i++) mean += chunk[i];
            });
            mean = block_sum(mean) / width;
        }
        each([&](float(&chunk)[SIZE], int) {
#pragma unroll
            for (int i = 0; i < SIZE; i++) squares = fmaf(chunk[i] - mean, chunk[i] - mean, squares);
        });
        const float factor = 1.0f / sqrtf(block_sum(squares) / width + norm.epsilon);
        each([&](float(&chunk)[SIZE], int column) { norm.scale(chunk, mean, factor, column); });
    }
};

constexpr int ROW_THREADS = 512;

// Instantiates KERNELS(T, suffix, form, chunk size, chunks) for rows of vectors and of single values; `form` names the
// most values of a thread.
#define FOR_ROWS(KERNELS, T, suffix)                                      \
    KERNELS(T, suffix, vectors_8, Vector<T>::SIZE, 8 / Vector<T>::SIZE)   \
    KERNELS(T, suffix, vectors_16, Vector<T>::SIZE, 16 / Vector<T>::SIZE) \
    KERNELS(T, suffix, vectors_32, Vector<T>::SIZE, 32 / Vector<T>::SIZE) \
    KERNELS(T, suffix, values_16, 1, 16)
