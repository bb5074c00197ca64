// Activations of rows after the sum with a bias, plain and gated. A thread has the columns of one vector.

#include "common.cuh"

// As `Activation` of the crate.
enum class Activation { Gelu, GeluTanh, Silu, Relu, Tanh, Sigmoid, Identity };

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float activate(Activation activation, float x) {
    switch (activation) {
        case Activation::Gelu: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case Activation::GeluTanh: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
        case Activation::Silu: return x * sigmoid(x);
        case Activation::Relu: return x > 0.0f || x != x ? x : 0.0f;
        case Activation::Tanh: return tanhf(x);
        case Activation::Sigmoid: return sigmoid(x);
        default: return x;
    }
}

// out = act(x + bias), `[rows, width]`; `out` may be `x`.
template <typename T>
__device__ __forceinline__ void activate_rows(const T* x, const float* bias, T* out, long long rows, int width,
                                              Activation activation) {
    constexpr int SIZE = Vector<T>::SIZE;
    const long long index = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int parts = (width + SIZE - 1) / SIZE;
    const long long row = index / parts;
    const int first = static_cast<int>(index % parts) * SIZE;
    if (row >= rows) return;
    const auto value = [&](T x, int column) {
        return from_float<T>(activate(activation, to_float(x) + (bias ? bias[column] : 0.0f)));
    };
    if (has_vectors(x, width) && has_vectors(out, width)) {
        Vector<T> vector = load_written_vector(x + row * width + first);
#pragma unroll
        for (int i = 0; i < SIZE; i++) vector.values[i] = value(vector.values[i], first + i);
        store_vector(out + row * width + first, vector);
    } else {
        for (int column = first; column < min(width, first + SIZE); column++)
            out[row * width + column] = value(x[row * width + column], column);
    }
}

// out `[rows, width]` = act(first half) * second half of x + bias `[rows, 2⋅width]`, or first * act(second).
template <typename T>
__device__ __forceinline__ void gate_rows(const T* x, const float* bias, T* out, long long rows, int width,
                                          Activation activation, bool first_activated) {
    constexpr int SIZE = Vector<T>::SIZE;
    const long long index = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const int parts = (width + SIZE - 1) / SIZE;
    const long long row = index / parts;
    const int from = static_cast<int>(index % parts) * SIZE;
    if (row >= rows) return;
    const auto value = [&](T one, T other, int column) {
        const float first = to_float(one) + (bias ? bias[column] : 0.0f);
        const float second = to_float(other) + (bias ? bias[width + column] : 0.0f);
        return from_float<T>(first_activated ? activate(activation, first) * second : first * activate(activation, second));
    };
    const T* in = x + row * 2 * width;
    if (has_vectors(x, width) && has_vectors(out, width)) {
        const Vector<T> one = load_vector(in + from), other = load_vector(in + width + from);
        Vector<T> vector;
#pragma unroll
        for (int i = 0; i < SIZE; i++) vector.values[i] = value(one.values[i], other.values[i], from + i);
        store_vector(out + row * width + from, vector);
    } else {
        for (int column = from; column < min(width, from + SIZE); column++)
            out[row * width + column] = value(in[column], in[width + column], column);
    }
}

#define ACTIVATION(type, suffix)                                                                                  \
    KERNEL(activation_##suffix, 256,                                                                              \
           (const type* x, const float* bias, type* out, long long rows, int width, int activation),              \
           activate_rows<type>(x, bias, out, rows, width, static_cast<Activation>(activation)))                   \
    KERNEL(gate_##suffix, 256,                                                                                    \
           (const type* x, const float* bias, type* out, long long rows, int width, int activation, int first),   \
           gate_rows<type>(x, bias, out, rows, width, static_cast<Activation>(activation), first != 0))
FOR_ELEMENTS(ACTIVATION)
