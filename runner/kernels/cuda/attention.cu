// Softmax attention over packed sequences of different lengths, in one pass over the keys: the kernels.

#include "attention_any_width.cuh"
#include "attention_tensor_cores.cuh"

namespace {

// The target number of blocks per multiprocessor. Cards with 100 KB of shared memory have room for fewer. On 8.0 it is
// one less for the width whose code takes more registers than on 9.0.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890)
constexpr int max_blocks(int width) { return width <= 64 ? 3 : width <= 96 ? 2 : 1; }
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 800
constexpr int max_blocks(int width) { return width == 64 ? 3 : 4; }
#else
constexpr int max_blocks(int) { return 4; }
#endif
constexpr int target_blocks(int width, int blocks) { return blocks < max_blocks(width) ? blocks : max_blocks(width); }

}  // namespace

#define PARAMETERS(T)                                                                                                \
    const T *qkv, const int *starts, const float *bias, T *out, int query_blocks, int kv_heads, float scale, int left, \
        int right, int positions, int selection
#define ARGUMENTS qkv, starts, bias, out, query_blocks, kv_heads, scale, left, right, positions, selection

#define ATTENTION(T, suffix, width, tiles, queries, keys, blocks)                               \
    KERNEL_BOUNDS(attention_w##width##_q##queries##_##suffix, THREADS, target_blocks(width, blocks), \
                  (PARAMETERS(T)), attend<T, width, tiles, keys>(ARGUMENTS))

#define ATTENTION_ON_TENSOR_CORES(T, suffix) \
    ATTENTION(T, suffix, 16, 1, 64, 64, 4)   \
    ATTENTION(T, suffix, 16, 2, 128, 64, 3)  \
    ATTENTION(T, suffix, 32, 1, 64, 64, 4)   \
    ATTENTION(T, suffix, 32, 2, 128, 64, 2)  \
    ATTENTION(T, suffix, 64, 1, 64, 64, 4)   \
    ATTENTION(T, suffix, 64, 2, 128, 64, 2)  \
    ATTENTION(T, suffix, 96, 1, 64, 64, 3)   \
    ATTENTION(T, suffix, 128, 1, 64, 64, 2)  \
    ATTENTION(T, suffix, 256, 1, 64, 32, 1)

FOR_HALF_ELEMENTS(ATTENTION_ON_TENSOR_CORES)

#define ATTENTION_OF_ANY_WIDTH(T, suffix) \
    KERNEL(attention_##suffix, THREADS, (PARAMETERS(T), int width), attend_any_width<T>(ARGUMENTS, width))

FOR_ELEMENTS(ATTENTION_OF_ANY_WIDTH)
