// Attention on tensor cores, for the widths of heads that have an instantiation.
//
// A block has four warps. A warp has one or two tiles of 16 queries in registers, with their sums and their scores for
// 64 keys. Keys and values are in shared memory, double buffered. Occupancy of a multiprocessor without spills, by the
// width of heads (with one tile of queries, and with two where such a kernel exists):
//   width    registers on 8.0 and 9.0, at most   blocks     shared memory
//   16:      113 and 165                         4 and 3     32 and 24 KB
//   32:      127 and 194                         4 and 2     64 and 32 KB
//   64:      150 on 8.0, 128 on 9.0, and 249     3, 4 and 2  96, 128 and 64 KB
//   96:      168                                 3          144 KB
//   128:     212                                 2          128 KB
//   256:     243                                 2          192 KB; 1 on 8.0
// With one tile of queries the loads from shared memory take about as long as the products. Two tiles share the loads,
// which outweighs having fewer warps when there are many keys. Short blocks need more of them at a time.
#pragma once

#include "attention.cuh"
#include "mma.cuh"

namespace {

// The swizzled layout of a tile in shared memory. A row has WIDTH values in chunks of 16 bytes. Chunk c of a row is at
// c ^ exchange(row), which puts the same chunk of eight rows into different banks; exchange depends on row % 8 alone.
template <int WIDTH>
struct Layout {
    static constexpr int CHUNKS = WIDTH / 8;
    static constexpr int ROW_BYTES = WIDTH * 2;
    // All values of exchange() are smaller.
    static constexpr int EXCHANGES = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2;

    __device__ __forceinline__ static unsigned exchange(unsigned row) { return row % 8 / (8 / EXCHANGES); }

    __device__ __forceinline__ static unsigned place(unsigned row, unsigned chunk) {
        return row * ROW_BYTES + (chunk ^ exchange(row)) * 16;
    }
};

// The address that a lane loads from in each block of 16×16 values: one chunk of one row, the right one if `right`.
template <int WIDTH>
struct LaneAddress {
    using Of = Layout<WIDTH>;
    unsigned row_bytes, exchanged;

    __device__ __forceinline__ LaneAddress(unsigned row, unsigned right)
        : row_bytes(row * Of::ROW_BYTES), exchanged((right ^ Of::exchange(row)) * 16) {}

    // The exchange stays within EXCHANGES chunks, so the rest of the column and the rows before are constants.
    __device__ __forceinline__ unsigned at(int rows, int step) const {
        constexpr int PERIOD = Of::EXCHANGES / 2;
        return row_bytes + (exchanged ^ (step % PERIOD * 32u)) + (rows * Of::ROW_BYTES + step / PERIOD * PERIOD * 32);
    }
};

// The part of each tile that a thread copies to shared memory: one chunk of every PASS_ROWS-th row.
template <typename T, int WIDTH>
struct TileCopy {
    using Of = Layout<WIDTH>;
    static constexpr int PASS_ROWS = THREADS / Of::CHUNKS / 4 * 4;
    int row, chunk;

    __device__ __forceinline__ TileCopy() : row(threadIdx.x / Of::CHUNKS), chunk(threadIdx.x % Of::CHUNKS) {}

    // The start of the thread's part of `rows`.
    __device__ __forceinline__ const T* part(const T* rows, int stride) const {
        return rows + static_cast<int64_t>(row) * stride + chunk * 8;
    }

    // Starts the copy of the first ROWS rows of a `part`; rows from `present` on are filled with zeros.
    template <int ROWS>
    __device__ __forceinline__ void copy(unsigned char* tile, const T* part, int stride, int present) const {
        if (PASS_ROWS * Of::CHUNKS < THREADS && row >= PASS_ROWS) return;
#pragma unroll
        for (int rows = 0; rows < ROWS; rows += PASS_ROWS)
            copy_async(tile + Of::place(row + rows, chunk), part + static_cast<int64_t>(rows) * stride,
                       row + rows < present);
    }
};

// A warp's queries with their softmax state and sums so far.
template <typename T, int WIDTH, int TILES, int KEYS>
struct Warp {
    static constexpr bool QUERIES_IN_REGISTERS = WIDTH <= 128;
    static constexpr int STEPS = WIDTH / 16;

    uint32_t queries[QUERIES_IN_REGISTERS ? TILES : 1][QUERIES_IN_REGISTERS ? STEPS : 1][4];
    const unsigned char* query_tile;
    LaneAddress<WIDTH> key_address, value_address;
    float sums[TILES][WIDTH / 8][4];
    // Of the rows `group` and `group + 8` of each tile: the largest score so far as an exponent of two and, relative to
    // it, the total of the weights in this lane's columns.
    float exponent[TILES][2], total[TILES][2];
    // The range of the warp's queries.
    int first, end;
    // The bias at distance 0.
    const float* bias;
    int centre;
    float scale;
    AttentionSpan span;

    __device__ __forceinline__ Warp()
        : key_address(threadIdx.x % WARP / 16 * 8 + threadIdx.x % 8, threadIdx.x % 16 / 8),
          value_address(threadIdx.x % 16, threadIdx.x % WARP / 16) {}

    __device__ __forceinline__ int row(int tile, int half) const {
        return first + 16 * tile + 8 * half + static_cast<int>(threadIdx.x % WARP) / 4;
    }

    __device__ __forceinline__ void query(uint32_t (&fragment)[4], int tile, int step) const {
        if constexpr (QUERIES_IN_REGISTERS) {
#pragma unroll
            for (int i = 0; i < 4; i++) fragment[i] = queries[tile][step][i];
        } else {
            load_matrices(fragment, query_tile + value_address.at(16 * tile, step));
        }
    }

    // Whether any query sees any of the `count` keys from `key` on.
    __device__ __forceinline__ bool sees(int key, int count) const {
        return key < span.end(end - 1) && key + count > span.first(first);
    }

    // Attends to KEYS keys from `first_key` on. ALL: every row is a query, and every query sees all of the keys.
    template <bool ALL>
    __device__ __forceinline__ void attend_to(const unsigned char* key_tile, const unsigned char* value_tile,
                                         int first_key) {
        const int column = threadIdx.x % 4 * 2;
        float scores[TILES][KEYS / 8][4];
#pragma unroll
        for (int group = 0; group < KEYS / 16; group++) {
            const bool seen = ALL || sees(first_key + 16 * group, 16);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++)
#pragma unroll
                for (int i = 0; i < 8; i++) scores[tile][2 * group + i / 4][i % 4] = seen ? 0.0f : -INFINITY;
            if (!seen) continue;
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                uint32_t keys[4];
                load_matrices(keys, key_tile + key_address.at(16 * group, step));
#pragma unroll
                for (int tile = 0; tile < TILES; tile++) {
                    uint32_t fragment[4];
                    query(fragment, tile, step);
                    multiply<T>(scores[tile][2 * group], fragment, keys[0], keys[1]);
                    multiply<T>(scores[tile][2 * group + 1], fragment, keys[2], keys[3]);
                }
            }
        }
        if (bias) {
#pragma unroll
            for (int tile = 0; tile < TILES; tile++)
#pragma unroll
                for (int i = 0; i < KEYS / 2; i++) {
                    const int key = first_key + i / 4 * 8 + column + i % 2;
                    int distance = key - row(tile, i / 2 % 2);
                    // Rows and keys past the end of the sequence have no bias.
                    if (!ALL) distance = min(max(distance, -centre), centre);
                    float& score = scores[tile][i / 4][i % 4];
                    score = fmaf(score, scale, __ldg(bias + distance) * LOG2_E);
                }
        }
        if constexpr (!ALL) {
#pragma unroll
            for (int tile = 0; tile < TILES; tile++)
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    const int from = span.first(row(tile, half)) - first_key - column;
                    const int to = span.end(row(tile, half)) - first_key - column;
#pragma unroll
                    for (int i = 0; i < KEYS / 4; i++) {
                        const int key = i / 2 * 8 + i % 2;
                        if (key < from || key >= to) scores[tile][i / 2][2 * half + i % 2] = -INFINITY;
                    }
                }
        }
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int half = 0; half < 2; half++) softmax_step(scores[tile], tile, half);
#pragma unroll
        for (int group = 0; group < KEYS / 16; group++) {
            if (!ALL && !sees(first_key + 16 * group, 16)) continue;
            uint32_t weights[TILES][4];
#pragma unroll
            for (int tile = 0; tile < TILES; tile++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const float(&of_lane)[4] = scores[tile][2 * group + i / 2];
                    weights[tile][i] = two_in_register<T>(of_lane[i % 2 * 2], of_lane[i % 2 * 2 + 1]);
                }
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                uint32_t values[4];
                load_matrices_transposed(values, value_tile + value_address.at(16 * group, step));
#pragma unroll
                for (int tile = 0; tile < TILES; tile++) {
                    multiply<T>(sums[tile][2 * step], weights[tile], values[0], values[1]);
                    multiply<T>(sums[tile][2 * step + 1], weights[tile], values[2], values[3]);
                }
            }
        }
    }

    // A step of the online softmax: scores become weights relative to the largest score so far, and the sums so far are
    // rescaled to it.
    __device__ __forceinline__ void softmax_step(float (&scores)[KEYS / 8][4], int tile, int half) {
        const float factor = bias ? 1.0f : scale;
        // fmaxf drops NaN; the differences below bring it back.
        float largest = -INFINITY;
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) largest = fmaxf(largest, scores[i / 2][2 * half + i % 2]);
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 2));
        const float before = exponent[tile][half], now = fmaxf(before, largest * factor);
        exponent[tile][half] = now;
        // No key seen yet: the base may be any number.
        const float base = now == -INFINITY ? 0.0f : now;
        const float shrink = exp2_fast(before - base);
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) {
            float& score = scores[i / 2][2 * half + i % 2];
            score = exp2_fast(fmaf(score, factor, -base));
            sum += score;
        }
        total[tile][half] = fmaf(total[tile][half], shrink, sum);
#pragma unroll
        for (int i = 0; i < WIDTH / 4; i++) sums[tile][i / 2][2 * half + i % 2] *= shrink;
    }
};

// A block computes WARPS⋅TILES⋅16 queries of one head of one sequence. Keys and values have two tiles each: one is
// computed with while the other is copied.
template <typename T, int WIDTH, int TILES, int KEYS>
__device__ __forceinline__ void attend(const T* __restrict__ qkv, const int* __restrict__ starts,
                                       const float* __restrict__ bias, T* __restrict__ out, int query_blocks,
                                       int kv_heads, float scale, int left, int right, int positions, int selection) {
    constexpr int QUERIES = WARPS * TILES * 16;
    constexpr int TILE_BYTES = KEYS * WIDTH * sizeof(T);
    using WarpState = Warp<T, WIDTH, TILES, KEYS>;
    DYNAMIC_SHARED(memory);

    // The last queries come first: with causal attention they take longest.
    const int sequence = blockIdx.x / query_blocks, query_block = query_blocks - 1 - blockIdx.x % query_blocks;
    const int heads = gridDim.y, head = blockIdx.y;
    const int start = __ldg(starts + sequence), length = __ldg(starts + sequence + 1) - start;
    const int first = selection == SELECT_LAST ? length - 1 : query_block * QUERIES;
    const int end = selection == SELECT_FIRST ? min(length, 1) : min(length, first + QUERIES);
    if (first < 0 || first >= end) return;
    const Head<T> of = head_of(qkv, start, head, heads, kv_heads, WIDTH);
    const AttentionSpan span{left, right, length};
    const int first_key = span.first(first) / KEYS * KEYS, end_key = span.end(end - 1);

    const int lane = threadIdx.x % WARP;
    WarpState warp;
    warp.span = span;
    warp.first = first + static_cast<int>(threadIdx.x / WARP) * TILES * 16;
    warp.end = min(end, warp.first + TILES * 16);
    const bool active = warp.first < warp.end, whole = warp.end == warp.first + TILES * 16;
    warp.centre = positions - 1;
    warp.bias = bias ? bias + static_cast<int64_t>(head) * (2 * positions - 1) + warp.centre : nullptr;
    warp.scale = scale * LOG2_E;

    const TileCopy<T, WIDTH> tile_copy;
    const T* keys = tile_copy.part(of.keys + of.row(first_key), of.stride);
    const int values_from_keys = kv_heads * WIDTH;
    const auto copy = [&](int stage, int key) {
        unsigned char* const tile = memory + stage * 2 * TILE_BYTES;
        tile_copy.template copy<KEYS>(tile, keys, of.stride, end_key - key);
        tile_copy.template copy<KEYS>(tile + TILE_BYTES, keys + values_from_keys, of.stride, end_key - key);
        keys += of.row(KEYS);
    };
    copy(0, first_key);
    if constexpr (WarpState::QUERIES_IN_REGISTERS) {
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = warp.row(tile, i % 2);
                const T* const query = of.queries + of.row(row) + lane % 4 * 2 + i / 2 * 8;
#pragma unroll
                for (int step = 0; step < WarpState::STEPS; step++)
                    warp.queries[tile][step][i] =
                        row < warp.end ? __ldg(reinterpret_cast<const uint32_t*>(query + step * 16)) : 0;
            }
    } else {
        unsigned char* const queries = memory + 4 * TILE_BYTES;
        const T* const part = tile_copy.part(of.queries + of.row(first), of.stride);
        tile_copy.template copy<QUERIES>(queries, part, of.stride, end - first);
        warp.query_tile = queries + threadIdx.x / WARP * TILES * 16 * WIDTH * sizeof(T);
    }
    commit_copies();
#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            warp.exponent[tile][half] = -INFINITY;
            warp.total[tile][half] = 0.0f;
#pragma unroll
            for (int i = 0; i < WIDTH / 4; i++) warp.sums[tile][i / 2][2 * half + i % 2] = 0.0f;
        }

    int stage = 0;
    for (int key = first_key; key < end_key; key += KEYS, stage ^= 1) {
        unsigned char* const tile = memory + stage * 2 * TILE_BYTES;
        wait_for_copies<0>();
        // This also means that every warp is done with the other stage.
        __syncthreads();
        if (key + KEYS < end_key) {
            copy(stage ^ 1, key + KEYS);
            commit_copies();
        }
        if (!active || !warp.sees(key, KEYS)) continue;
        if (whole && key >= span.first(warp.end - 1) && key + KEYS <= span.end(warp.first))
            warp.template attend_to<true>(tile, tile + TILE_BYTES, key);
        else
            warp.template attend_to<false>(tile, tile + TILE_BYTES, key);
    }

#pragma unroll
    for (int tile = 0; tile < TILES; tile++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total = warp.total[tile][half];
            total += __shfl_xor_sync(ALL_LANES, total, 1);
            total += __shfl_xor_sync(ALL_LANES, total, 2);
            const float inverse = 1.0f / total;
            const int row = warp.row(tile, half);
            if (row >= warp.end) continue;
            const int64_t out_row = selection == SELECT_ALL ? start + row : sequence;
            T* const to = out + (out_row * heads + head) * WIDTH + lane % 4 * 2;
#pragma unroll
            for (int i = 0; i < WIDTH / 8; i++) {
                const float(&sums)[4] = warp.sums[tile][i];
                *reinterpret_cast<uint32_t*>(to + i * 8) =
                    two_in_register<T>(sums[2 * half] * inverse, sums[2 * half + 1] * inverse);
            }
        }
}

}  // namespace
