// Layer normalisation and root-mean-square normalisation of rows, after the sum with a bias and a residual.
//
// A warp per row. A row is read from memory once: the later passes find it in the first cache. The sums are of f32 and
// are not rounded before they are normalised; the variance is that of differences from the mean, which does not cancel.

#include "common.cuh"

constexpr int ROWS = 4;  // of a block, one per warp

template <typename T>
struct Row {
    const T* x;
    const T* residual;  // may be absent, as all that follow
    const float* bias;

    __device__ __forceinline__ float at(int column) const {
        float value = to_float(x[column]);
        if (bias) value += bias[column];
        if (residual) value += to_float(residual[column]);
        return value;
    }

    // Those from `column` on that a vector holds.
    __device__ __forceinline__ void at(int column, float (&values)[Vector<T>::SIZE]) const {
        constexpr int SIZE = Vector<T>::SIZE;
        const Vector<T> loaded = load_written_vector(x + column);
#pragma unroll
        for (int i = 0; i < SIZE; i++) values[i] = to_float(loaded.values[i]);
        if (bias) {
#pragma unroll
            for (int i = 0; i < SIZE; i++) values[i] += bias[column + i];
        }
        if (residual) {
            const Vector<T> added = load_vector(residual + column);
#pragma unroll
            for (int i = 0; i < SIZE; i++) values[i] += to_float(added.values[i]);
        }
    }

    // The sum of what `of` makes of the values, in every lane.
    template <typename F>
    __device__ __forceinline__ float sum(int width, bool vectors, F of) const {
        constexpr int SIZE = Vector<T>::SIZE;
        const int lane = threadIdx.x % WARP;
        float total = 0.0f;
        if (vectors) {
            for (int column = lane * SIZE; column < width; column += WARP * SIZE) {
                float values[SIZE];
                at(column, values);
#pragma unroll
                for (int i = 0; i < SIZE; i++) total += of(values[i]);
            }
        } else {
            for (int column = lane; column < width; column += WARP) total += of(at(column));
        }
        return warp_sum(total);
    }
};

// out = norm(x + bias + residual); `sum`, where it is wanted, gets what was normalised. `out` may be `x`.
template <typename T>
__device__ __forceinline__ void normalise(const T* x, const T* residual, const float* bias, const float* weight,
                                          const float* norm_bias, T* out, T* sum, int64_t rows, int width, float epsilon,
                                          int centre) {
    constexpr int SIZE = Vector<T>::SIZE;
    const int64_t index = static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.x / WARP;
    if (index >= rows) return;
    const int64_t start = index * width;
    const Row<T> row{x + start, residual ? residual + start : nullptr, bias};
    const bool vectors = has_vectors(x, width) && has_vectors(residual, width) && has_vectors(out, width) &&
                         has_vectors(sum, width);
    const float mean = centre ? row.sum(width, vectors, [](float value) { return value; }) / width : 0.0f;
    const float squares = row.sum(width, vectors, [mean](float value) { return (value - mean) * (value - mean); });
    const float scale = 1.0f / sqrtf(squares / width + epsilon);
    const auto normal = [&](float value, int column) {
        const float scaled = (value - mean) * scale * weight[column];
        return norm_bias ? scaled + norm_bias[column] : scaled;
    };
    const int lane = threadIdx.x % WARP;
    if (vectors) {
        for (int column = lane * SIZE; column < width; column += WARP * SIZE) {
            float values[SIZE];
            row.at(column, values);
            Vector<T> normalised, summed;
#pragma unroll
            for (int i = 0; i < SIZE; i++) {
                summed.values[i] = from_float<T>(values[i]);
                normalised.values[i] = from_float<T>(normal(values[i], column + i));
            }
            store_vector(out + start + column, normalised);
            if (sum) store_vector(sum + start + column, summed);
        }
    } else {
        for (int column = lane; column < width; column += WARP) {
            const float value = row.at(column);
            out[start + column] = from_float<T>(normal(value, column));
            if (sum) sum[start + column] = from_float<T>(value);
        }
    }
}

#define NORM(type, suffix)                                                                                         \
    KERNEL(norm_##suffix, ROWS* WARP,                                                                              \
           (const type* x, const type* residual, const float* bias, const float* weight, const float* norm_bias,   \
            type* out, type* sum, long long rows, int width, float epsilon, int centre),                           \
           normalise<type>(x, residual, bias, weight, norm_bias, out, sum, rows, width, epsilon, centre))
FOR_ELEMENTS(NORM)
