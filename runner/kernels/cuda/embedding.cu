// Embeddings: rows of tables, gathered, summed and normalised. A warp or a block has a token, in registers.

#include "rows.cuh"

namespace {

// A table with an index per token; or absent.
template <typename T>
struct TableLookup {
    const T* table;
    const unsigned* indices;

    __device__ __forceinline__ const T* row(unsigned token, int width) const {
        return table ? table + static_cast<int64_t>(__ldg(indices + token)) * width : nullptr;
    }
};

template <typename T, int SIZE, int CHUNKS>
__device__ __forceinline__ void embed(const TableLookup<T>& words, const TableLookup<T>& positions, const TableLookup<T>& types,
                                      const Norm& norm, T* out, int tokens, int width, float scale) {
    const unsigned token = blockIdx.x * blockDim.y + threadIdx.y;
    if (token >= static_cast<unsigned>(tokens)) return;
    Row<SIZE, CHUNKS> values;
    values.width = width;
    values.load(words.row(token, width));
    values.add(positions.row(token, width));
    values.add(types.row(token, width));
    values.each([&](float(&chunk)[SIZE], int) {
#pragma unroll
        for (int i = 0; i < SIZE; i++) chunk[i] *= scale;
    });
    if (norm.kind != NORM_NONE) values.normalise(norm);
    values.store(out + static_cast<int64_t>(token) * width);
}

}  // namespace

#define EMBEDDING(T, suffix, form, size, chunks)                                                                      \
    KERNEL(embedding_##form##_##suffix, ROW_THREADS,                                                                  \
           (const T* words, const unsigned* ids, const T* positions, const unsigned* position_ids, const T* types,    \
            const unsigned* type_ids, const float* weight, const float* norm_bias, T* out, int tokens, int width,     \
            float scale, int kind, float epsilon),                                                                    \
           embed<T, size, chunks>(TableLookup<T>{words, ids}, TableLookup<T>{positions, position_ids}, TableLookup<T>{types, type_ids},    \
                                  Norm{kind, epsilon, weight, norm_bias}, out, tokens, width, scale))
#define EMBEDDINGS(T, suffix) FOR_ROWS(EMBEDDING, T, suffix)

FOR_ELEMENTS(EMBEDDINGS)
