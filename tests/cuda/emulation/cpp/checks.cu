// Kernels of the tests of the emulation itself.

#include "common.cuh"

KERNEL(check_conversions, 256, (const float* from, __half* halves, __nv_bfloat16* brains, float* back, int count), {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= count) return;
    halves[at] = from_float<__half>(from[at]);
    brains[at] = from_float<__nv_bfloat16>(from[at]);
    back[at] = to_float(halves[at]);
})

KERNEL(check_shuffles, 128, (int* out), {
    const int lane = threadIdx.x % WARP;
    const int xor_ = __shfl_xor_sync(ALL_LANES, lane, 5);
    const int up = __shfl_up_sync(ALL_LANES, lane, 3, 8);
    const int down = __shfl_down_sync(ALL_LANES, lane, 3, 8);
    const int from = __shfl_sync(ALL_LANES, lane, 2, 16);
    const unsigned odd = __ballot_sync(ALL_LANES, lane % 2);
    int* const to = out + 5 * threadIdx.x;
    to[0] = xor_, to[1] = up, to[2] = down, to[3] = from, to[4] = static_cast<int>(odd);
})

KERNEL(check_reductions, 128, (const float* values, float* sums, float* largest), {
    const int at = blockIdx.x * blockDim.x + threadIdx.x;
    sums[at] = block_sum(values[at]);
    largest[at] = block_largest(values[at]);
})

KERNEL(check_left_barrier, 64, (int* out), {
    if (threadIdx.x == 3) return;
    __syncthreads();
    out[threadIdx.x] = 1;
})

KERNEL(check_left_lanes, 64, (int* out), {
    if (threadIdx.x == 3) return;
    out[threadIdx.x] = __shfl_xor_sync(ALL_LANES, 1, 1);
})

KERNEL(check_write_beyond, 64, (int* out, int count), { out[count + threadIdx.x] = 0; })

KERNEL(check_shared_write_beyond, 64, (float* out), {
    DYNAMIC_SHARED(memory);
    reinterpret_cast<float*>(memory)[threadIdx.x] = 1.0f;
    *out = 0.0f;
})

KERNEL(check_unwritten, 64, (float* out), {
    SHARED_ARRAY(float, memory, 64);
    if (threadIdx.x == 0) memory[0] = 1.0f;
    __syncthreads();
    out[threadIdx.x] = memory[threadIdx.x];
})

// Without the barrier that it needs.
KERNEL(check_race, 64, (float* out), {
    SHARED_ARRAY(float, memory, 64);
    memory[threadIdx.x] = 1.0f;
    out[blockIdx.x * 64 + threadIdx.x] = memory[63 - threadIdx.x] + memory[threadIdx.x / 2];
})
