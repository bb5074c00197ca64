// Activations, gated activations and sums over rows of any width. A thread processes one chunk of a row at a time.

#include "rows.cuh"

namespace {

constexpr int THREADS = 256;

// As `kernels::Activation`.
enum { GELU = 0, GELU_TANH = 1, SILU = 2, RELU = 3, TANH = 4, SIGMOID = 5, IDENTITY = 6 };

__device__ __forceinline__ float gelu(float x) {
    const float half = 0.5f * x;
    return fmaf(half, erff(x * 0.70710678f), half);
}
__device__ __forceinline__ float gelu_tanh(float x) {
    const float half = 0.5f * x;
    return fmaf(half, tanhf(0.7978846f * fmaf(x * x * x, 0.044715f, x)), half);
}
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <int SIZE, typename F>
__device__ __forceinline__ void map(float (&values)[SIZE], F f) {
#pragma unroll
    for (int i = 0; i < SIZE; i++) values[i] = f(values[i]);
}

template <int SIZE>
__device__ __forceinline__ void activate(float (&values)[SIZE], int activation) {
    switch (activation) {
        case GELU: return map(values, [](float x) { return gelu(x); });
        case GELU_TANH: return map(values, [](float x) { return gelu_tanh(x); });
        case SILU: return map(values, [](float x) { return x * sigmoid(x); });
        // NaN stays NaN.
        case RELU: return map(values, [](float x) { return x < 0.0f ? 0.0f : x; });
        case TANH: return map(values, [](float x) { return tanhf(x); });
        case SIGMOID: return map(values, [](float x) { return sigmoid(x); });
        default: return;
    }
}

// Calls f(row, column) for every chunk of this thread: threads in y have a row each, threads in x share its columns.
template <int SIZE, typename F>
__device__ __forceinline__ void for_chunks(int rows, int width, F f) {
    const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    for (int column = threadIdx.x * SIZE; column < width; column += blockDim.x * SIZE) f(row, column);
}

// act(x + bias + residual)
template <typename T, int SIZE>
__device__ __forceinline__ void activate_rows(const T* x, const float* bias, const T* residual, T* out, int rows,
                                              int width, int activation) {
    for_chunks<SIZE>(rows, width, [&](int64_t row, int column) {
        float values[SIZE];
        load_chunk(values, x + row * width + column);
        add_chunk(values, bias, column);
        add_chunk(values, residual, row * width + column);
        activate(values, activation);
        store_chunk(out + row * width + column, values);
    });
}

// The product of the halves of x + bias, one of them activated; `width` is that of a half.
template <typename T, int SIZE>
__device__ __forceinline__ void gate_rows(const T* __restrict__ x, const float* __restrict__ bias, T* __restrict__ out,
                                          int rows, int width, int activation, int second_is_activated) {
    for_chunks<SIZE>(rows, width, [&](int64_t row, int column) {
        const int64_t from = row * 2 * width + column;
        float first[SIZE], second[SIZE];
        load_chunk(first, x + from);
        load_chunk(second, x + from + width);
        add_chunk(first, bias, column);
        add_chunk(second, bias, column + width);
        if (second_is_activated) activate(second, activation);
        else activate(first, activation);
#pragma unroll
        for (int i = 0; i < SIZE; i++) first[i] *= second[i];
        store_chunk(out + row * width + column, first);
    });
}

}  // namespace

#define ACTIVATION(T, suffix, form, size)                                                                            \
    KERNEL(activation_##form##_##suffix, THREADS,                                                                    \
           (const T* x, const float* bias, const T* residual, T* out, int rows, int width, int activation),          \
           activate_rows<T, size>(x, bias, residual, out, rows, width, activation))                                  \
    KERNEL(gate_##form##_##suffix, THREADS,                                                                          \
           (const T* x, const float* bias, T* out, int rows, int width, int activation, int second_is_activated),    \
           gate_rows<T, size>(x, bias, out, rows, width, activation, second_is_activated))
#define ACTIVATIONS(T, suffix)                           \
    ACTIVATION(T, suffix, vectors, Vector<T>::SIZE)      \
    ACTIVATION(T, suffix, values, 1)

FOR_ELEMENTS(ACTIVATIONS)
