// Sums of hidden states and their normalisation. A warp or a block has a row, in registers.

#include "rows.cuh"

namespace {

// A thread reads and writes the same columns, so an output may be the same array as an input: `x` and `residual` are
// read before anything is written, `added` before `out`.
template <typename T, int SIZE, int CHUNKS>
__device__ __forceinline__ void normalise_rows(const T* x, const float* bias, const T* residual, const T* added,
                                               const Norm& norm, T* sum, T* out, int rows, int width, int groups,
                                               int64_t stride) {
    const unsigned row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= static_cast<unsigned>(rows)) return;
    const int group_column = static_cast<int>(row % groups) * width;
    const int64_t start = static_cast<int64_t>(row / groups) * stride + group_column;
    Row<SIZE, CHUNKS> values;
    values.width = width;
    values.load(x + start);
    values.add(offset_or_null(bias, group_column));
    values.add(offset_or_null(residual, start));
    values.store(offset_or_null(sum, start));
    values.normalise(norm);
    values.add(offset_or_null(added, start));
    values.store(out + start);
}

}  // namespace

#define NORM(T, suffix, form, size, chunks)                                                                            \
    KERNEL(norm_##form##_##suffix, ROW_THREADS,                                                                        \
           (const T* x, const float* bias, const T* residual, const T* added, const float* weight,                     \
            const float* norm_bias, T* sum, T* out, int rows, int width, int groups, int64_t stride, int kind,         \
            float epsilon),                                                                                            \
           normalise_rows<T, size, chunks>(x, bias, residual, added, Norm{kind, epsilon, weight, norm_bias}, sum, out, \
                                           rows, width, groups, stride))
#define NORMS(T, suffix) FOR_ROWS(NORM, T, suffix)

FOR_ELEMENTS(NORMS)
