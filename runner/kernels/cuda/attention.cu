// Softmax attention over packed sequences of different lengths, in one pass over the keys.
//
// Blocks have four warps. A warp of the kernels on tensor cores has one tile of 16 queries or two, in registers with
// their sums and with their scores for 64 keys; keys and values are in shared memory, twice. What a multiprocessor
// holds, by the width of heads (one tile of queries and, where there is such a kernel, two), without spills:
//            registers on 8.0 and 9.0, at most   blocks     shared memory
//   16:      113 and 165                         4 and 3     32 and 24 KB
//   32:      127 and 194                         4 and 2     64 and 32 KB
//   64:      150 on 8.0, 128 on 9.0, and 249     3, 4 and 2  96, 128 and 64 KB
//   96:      168                                 3          144 KB
//   128:     212                                 2          128 KB
//   256:     243                                 2          192 KB; 1 on 8.0
// With one tile of queries the loads from shared memory take about as long as the products. Two tiles share them, which
// is worth fewer warps where there are many keys. Blocks that end early and start late need more of them at a time.

#include "common.cuh"
#include "mma.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr float LOG2_E = 1.4426950408889634f;

// Blocks that a multiprocessor shall hold: no more than shared memory has place for, on cards with 100 KB; and on 8.0
// one less where the code takes more registers than on 9.0.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890)
constexpr int most_blocks(int width) { return width <= 64 ? 3 : width <= 96 ? 2 : 1; }
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 800
constexpr int most_blocks(int width) { return width == 64 ? 3 : 4; }
#else
constexpr int most_blocks(int) { return 4; }
#endif
constexpr int blocks_of(int width, int blocks) { return blocks < most_blocks(width) ? blocks : most_blocks(width); }

// What of each sequence is kept, see `Kept` of the builder.
enum { KEPT_ALL = 0, KEPT_FIRST = 1, KEPT_LAST = 2 };

// Where the queries, keys and values of a head are: `[tokens, (query_heads + 2⋅kv_heads)⋅width]`.
template <typename T>
struct Head {
    const T* queries;
    const T* keys;
    const T* values;
    int stride;

    __device__ __forceinline__ int64_t row(int token) const { return static_cast<int64_t>(token) * stride; }
};

template <typename T>
__device__ __forceinline__ Head<T> head_of(const T* qkv, int start, int head, int heads, int kv_heads, int width) {
    const int stride = (heads + 2 * kv_heads) * width, shared = head / (heads / kv_heads);
    const T* const sequence = qkv + static_cast<int64_t>(start) * stride;
    const T* const keys = sequence + (heads + shared) * width;
    return {sequence + head * width, keys, keys + kv_heads * width, stride};
}

// The keys that a query at `position`, or all up to `last`, may see.
struct Reach {
    int left, right, length;

    __device__ __forceinline__ int first(int position) const { return left < 0 ? 0 : max(0, position - left); }
    __device__ __forceinline__ int end(int last) const { return right < 0 ? length : min(length, last + right + 1); }
};

// On tensor cores

// A tile has rows of WIDTH values in chunks of 16 bytes. Chunks are exchanged so that those of eight rows are in
// different banks: chunk c of a row is at c ^ exchange, where the exchange depends on row % 8 alone.
template <int WIDTH>
struct Layout {
    static constexpr int CHUNKS = WIDTH / 8;
    static constexpr int ROW_BYTES = WIDTH * 2;
    // Exchanges are smaller than this.
    static constexpr int EXCHANGES = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 2;

    __device__ __forceinline__ static unsigned exchange(unsigned row) { return row % 8 / (8 / EXCHANGES); }

    __device__ __forceinline__ static unsigned place(unsigned row, unsigned chunk) {
        return row * ROW_BYTES + (chunk ^ exchange(row)) * 16;
    }
};

// What a lane loads of the 16×16 values at a multiple of 16 rows and columns: the chunk `right` of one row.
template <int WIDTH>
struct LanePlace {
    using Of = Layout<WIDTH>;
    unsigned row_bytes, exchanged;

    __device__ __forceinline__ LanePlace(unsigned row, unsigned right)
        : row_bytes(row * Of::ROW_BYTES), exchanged((right ^ Of::exchange(row)) * 16) {}

    // The exchange stays within EXCHANGES chunks: what is left of the column and the rows before are constants.
    __device__ __forceinline__ unsigned at(int rows, int step) const {
        constexpr int PERIOD = Of::EXCHANGES / 2;
        return row_bytes + (exchanged ^ (step % PERIOD * 32u)) + (rows * Of::ROW_BYTES + step / PERIOD * PERIOD * 32);
    }
};

// What a thread copies of each tile: one chunk of every PASS_ROWS-th row.
template <typename T, int WIDTH>
struct Copier {
    using Of = Layout<WIDTH>;
    static constexpr int PASS_ROWS = THREADS / Of::CHUNKS / 4 * 4;
    int row, chunk;

    __device__ __forceinline__ Copier() : row(threadIdx.x / Of::CHUNKS), chunk(threadIdx.x % Of::CHUNKS) {}

    // Where the thread's part of the `rows` starts.
    __device__ __forceinline__ const T* part(const T* rows, int stride) const {
        return rows + static_cast<int64_t>(row) * stride + chunk * 8;
    }

    // Starts the copy of the first ROWS rows of a `part`; those from `present` on are zeros.
    template <int ROWS>
    __device__ __forceinline__ void copy(unsigned char* tile, const T* part, int stride, int present) const {
        if (PASS_ROWS * Of::CHUNKS < THREADS && row >= PASS_ROWS) return;
#pragma unroll
        for (int rows = 0; rows < ROWS; rows += PASS_ROWS)
            copy_async(tile + Of::place(row + rows, chunk), part + static_cast<int64_t>(rows) * stride,
                       row + rows < present);
    }
};

// A warp's queries and what has been summed up for them.
template <typename T, int WIDTH, int TILES, int KEYS>
struct Warp {
    static constexpr bool QUERIES_IN_REGISTERS = WIDTH <= 128;
    static constexpr int STEPS = WIDTH / 16;

    uint32_t queries[QUERIES_IN_REGISTERS ? TILES : 1][QUERIES_IN_REGISTERS ? STEPS : 1][4];
    const unsigned char* query_tile;
    LanePlace<WIDTH> key_place, value_place;
    float sums[TILES][WIDTH / 8][4];
    // Of the rows `group` and `group + 8` of each tile: the largest score as a power of two and, relative to it, the
    // total of the weights of this lane's columns.
    float exponent[TILES][2], total[TILES][2];
    // The warp's rows.
    int first, end;
    // At distance 0.
    const float* bias;
    int centre;
    float scale;
    Reach reach;

    __device__ __forceinline__ Warp()
        : key_place(threadIdx.x % WARP / 16 * 8 + threadIdx.x % 8, threadIdx.x % 16 / 8),
          value_place(threadIdx.x % 16, threadIdx.x % WARP / 16) {}

    __device__ __forceinline__ int row(int tile, int half) const {
        return first + 16 * tile + 8 * half + static_cast<int>(threadIdx.x % WARP) / 4;
    }

    __device__ __forceinline__ void query(uint32_t (&fragment)[4], int tile, int step) const {
        if constexpr (QUERIES_IN_REGISTERS) {
#pragma unroll
            for (int i = 0; i < 4; i++) fragment[i] = queries[tile][step][i];
        } else {
            load_matrices(fragment, query_tile + value_place.at(16 * tile, step));
        }
    }

    // Whether some query sees some of these keys.
    __device__ __forceinline__ bool sees(int key, int count) const {
        return key < reach.end(end - 1) && key + count > reach.first(first);
    }

    // Takes KEYS keys from `first_of_tile` on. ALL: every row is of a query, which sees all of them.
    template <bool ALL>
    __device__ __forceinline__ void take(const unsigned char* key_tile, const unsigned char* value_tile,
                                         int first_of_tile) {
        const int column = threadIdx.x % 4 * 2;
        float scores[TILES][KEYS / 8][4];
#pragma unroll
        for (int group = 0; group < KEYS / 16; group++) {
            const bool seen = ALL || sees(first_of_tile + 16 * group, 16);
#pragma unroll
            for (int tile = 0; tile < TILES; tile++)
#pragma unroll
                for (int i = 0; i < 8; i++) scores[tile][2 * group + i / 4][i % 4] = seen ? 0.0f : -INFINITY;
            if (!seen) continue;
#pragma unroll
            for (int step = 0; step < STEPS; step++) {
                uint32_t keys[4];
                load_matrices(keys, key_tile + key_place.at(16 * group, step));
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
                    const int key = first_of_tile + i / 4 * 8 + column + i % 2;
                    int distance = key - row(tile, i / 2 % 2);
                    // Rows and keys after the end of the sequence have no bias of their own.
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
                    const int from = reach.first(row(tile, half)) - first_of_tile - column;
                    const int to = reach.end(row(tile, half)) - first_of_tile - column;
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
            for (int half = 0; half < 2; half++) weigh(scores[tile], tile, half);
#pragma unroll
        for (int group = 0; group < KEYS / 16; group++) {
            if (!ALL && !sees(first_of_tile + 16 * group, 16)) continue;
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
                load_matrices_transposed(values, value_tile + value_place.at(16 * group, step));
#pragma unroll
                for (int tile = 0; tile < TILES; tile++) {
                    multiply<T>(sums[tile][2 * step], weights[tile], values[0], values[1]);
                    multiply<T>(sums[tile][2 * step + 1], weights[tile], values[2], values[3]);
                }
            }
        }
    }

    // Scores become weights relative to the largest score so far; what was summed up before is scaled to it.
    __device__ __forceinline__ void weigh(float (&scores)[KEYS / 8][4], int tile, int half) {
        const float factor = bias ? 1.0f : scale;
        // fmaxf passes over NaN, which the differences below bring back.
        float largest = -INFINITY;
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) largest = fmaxf(largest, scores[i / 2][2 * half + i % 2]);
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 2));
        const float before = exponent[tile][half], now = fmaxf(before, largest * factor);
        exponent[tile][half] = now;
        // Nothing seen so far: any base will do that is a number.
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

// A block takes WARPS⋅TILES⋅16 queries of one head of one sequence. Keys and values go through two tiles each: while
// one is worked on, the next is copied.
template <typename T, int WIDTH, int TILES, int KEYS>
__device__ __forceinline__ void attend(const T* __restrict__ qkv, const int* __restrict__ starts,
                                       const float* __restrict__ bias, T* __restrict__ out, int query_blocks,
                                       int kv_heads, float scale, int left, int right, int positions, int kept) {
    constexpr int QUERIES = WARPS * TILES * 16;
    constexpr int TILE_BYTES = KEYS * WIDTH * sizeof(T);
    using OfWarp = Warp<T, WIDTH, TILES, KEYS>;
    DYNAMIC_SHARED(memory);

    // The last queries first: with causal attention they take longest.
    const int sequence = blockIdx.x / query_blocks, query_block = query_blocks - 1 - blockIdx.x % query_blocks;
    const int heads = gridDim.y, head = blockIdx.y;
    const int start = __ldg(starts + sequence), length = __ldg(starts + sequence + 1) - start;
    const int first = kept == KEPT_LAST ? length - 1 : query_block * QUERIES;
    const int end = kept == KEPT_FIRST ? min(length, 1) : min(length, first + QUERIES);
    if (first < 0 || first >= end) return;
    const Head<T> of = head_of(qkv, start, head, heads, kv_heads, WIDTH);
    const Reach reach{left, right, length};
    const int first_key = reach.first(first) / KEYS * KEYS, end_key = reach.end(end - 1);

    const int lane = threadIdx.x % WARP;
    OfWarp warp;
    warp.reach = reach;
    warp.first = first + static_cast<int>(threadIdx.x / WARP) * TILES * 16;
    warp.end = min(end, warp.first + TILES * 16);
    const bool active = warp.first < warp.end, whole = warp.end == warp.first + TILES * 16;
    warp.centre = positions - 1;
    warp.bias = bias ? bias + static_cast<int64_t>(head) * (2 * positions - 1) + warp.centre : nullptr;
    warp.scale = scale * LOG2_E;

    const Copier<T, WIDTH> copier;
    const T* keys = copier.part(of.keys + of.row(first_key), of.stride);
    const int values_from_keys = kv_heads * WIDTH;
    const auto copy = [&](int stage, int key) {
        unsigned char* const tile = memory + stage * 2 * TILE_BYTES;
        copier.template copy<KEYS>(tile, keys, of.stride, end_key - key);
        copier.template copy<KEYS>(tile + TILE_BYTES, keys + values_from_keys, of.stride, end_key - key);
        keys += of.row(KEYS);
    };
    copy(0, first_key);
    if constexpr (OfWarp::QUERIES_IN_REGISTERS) {
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = warp.row(tile, i % 2);
                const T* const query = of.queries + of.row(row) + lane % 4 * 2 + i / 2 * 8;
#pragma unroll
                for (int step = 0; step < OfWarp::STEPS; step++)
                    warp.queries[tile][step][i] =
                        row < warp.end ? __ldg(reinterpret_cast<const uint32_t*>(query + step * 16)) : 0;
            }
    } else {
        unsigned char* const queries = memory + 4 * TILE_BYTES;
        const T* const part = copier.part(of.queries + of.row(first), of.stride);
        copier.template copy<QUERIES>(queries, part, of.stride, end - first);
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
        // Also: every warp is done with the other stage.
        __syncthreads();
        if (key + KEYS < end_key) {
            copy(stage ^ 1, key + KEYS);
            commit_copies();
        }
        if (!active || !warp.sees(key, KEYS)) continue;
        if (whole && key >= reach.first(warp.end - 1) && key + KEYS <= reach.end(warp.first))
            warp.template take<true>(tile, tile + TILE_BYTES, key);
        else
            warp.template take<false>(tile, tile + TILE_BYTES, key);
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
            const int64_t out_row = kept == KEPT_ALL ? start + row : sequence;
            T* const to = out + (out_row * heads + head) * WIDTH + lane % 4 * 2;
#pragma unroll
            for (int i = 0; i < WIDTH / 8; i++) {
                const float(&sums)[4] = warp.sums[tile][i];
                *reinterpret_cast<uint32_t*>(to + i * 8) =
                    two_in_register<T>(sums[2 * half] * inverse, sums[2 * half + 1] * inverse);
            }
        }
}

// For any width

constexpr int MOST_WIDTH = 256;

// A warp takes one query of one head, 32 keys at a time: a lane has a key for the scores, and columns for the sums.
template <typename T>
__device__ __forceinline__ void attend_plainly(const T* __restrict__ qkv, const int* __restrict__ starts,
                                               const float* __restrict__ bias, T* __restrict__ out, int query_blocks,
                                               int kv_heads, float scale, int left, int right, int positions, int kept,
                                               int width) {
    SHARED_ARRAY(float, queries, WARPS * MOST_WIDTH);
    SHARED_ARRAY(float, all_weights, WARPS * WARP);
    const int sequence = blockIdx.x / query_blocks, query_block = query_blocks - 1 - blockIdx.x % query_blocks;
    const int heads = gridDim.y, head = blockIdx.y, lane = threadIdx.x % WARP, of_block = threadIdx.x / WARP;
    const int start = __ldg(starts + sequence), length = __ldg(starts + sequence + 1) - start;
    const int row = kept == KEPT_LAST ? length - 1 - of_block : query_block * WARPS + of_block;
    if (row < 0 || row >= length || (kept != KEPT_ALL && of_block > 0)) return;
    const Head<T> of = head_of(qkv, start, head, heads, kv_heads, width);
    const Reach reach{left, right, length};
    const int first_key = reach.first(row), end_key = reach.end(row);
    float* const query = queries + of_block * MOST_WIDTH;
    float* const weights = all_weights + of_block * WARP;
    if (bias) bias += static_cast<int64_t>(head) * (2 * positions - 1) + positions - 1;

    for (int i = lane; i < width; i += WARP) query[i] = to_float(of.queries[of.row(row) + i]);
    __syncwarp();
    const bool vectors = has_vectors(qkv, width);
    float sums[MOST_WIDTH / WARP] = {};
    float before = -INFINITY, total = 0.0f;
    for (int key = first_key; key < end_key; key += WARP) {
        float score = -INFINITY;
        if (key + lane < end_key) {
            const T* const keys = of.keys + of.row(key + lane);
            score = 0.0f;
            if (vectors) {
                for (int i = 0; i < width; i += Vector<T>::SIZE) {
                    const Vector<T> part = load_vector(keys + i);
#pragma unroll
                    for (int j = 0; j < Vector<T>::SIZE; j++)
                        score = fmaf(query[i + j], to_float(part.values[j]), score);
                }
            } else {
                for (int i = 0; i < width; i++) score = fmaf(query[i], to_float(keys[i]), score);
            }
            score *= scale * LOG2_E;
            if (bias) score += bias[key + lane - row] * LOG2_E;
        }
        // fmaxf passes over NaN, which the difference below brings back.
        float now = fmaxf(before, score);
#pragma unroll
        for (int distance = WARP / 2; distance > 0; distance /= 2)
            now = fmaxf(now, __shfl_xor_sync(ALL_LANES, now, distance));
        const float base = now == -INFINITY ? 0.0f : now;
        const float shrink = exp2f(before - base), weight = exp2f(score - base);
        before = now;
        total = fmaf(total, shrink, weight);
        weights[lane] = weight;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < MOST_WIDTH / WARP; i++) sums[i] *= shrink;
        for (int j = 0; j < min(WARP, end_key - key); j++) {
            const T* const values = of.values + of.row(key + j);
            const float weight_of_key = weights[j];
#pragma unroll
            for (int i = 0; i < MOST_WIDTH / WARP; i++)
                if (i * WARP + lane < width)
                    sums[i] = fmaf(weight_of_key, to_float(values[i * WARP + lane]), sums[i]);
        }
        __syncwarp();
    }
    const float inverse = 1.0f / warp_sum(total);
    const int64_t out_row = kept == KEPT_ALL ? start + row : sequence;
    T* const to = out + (out_row * heads + head) * width;
#pragma unroll
    for (int i = 0; i < MOST_WIDTH / WARP; i++)
        if (i * WARP + lane < width) to[i * WARP + lane] = from_float<T>(sums[i] * inverse);
}

}  // namespace

#define PARAMETERS(T)                                                                                                \
    const T *qkv, const int *starts, const float *bias, T *out, int query_blocks, int kv_heads, float scale, int left, \
        int right, int positions, int kept
#define ARGUMENTS qkv, starts, bias, out, query_blocks, kv_heads, scale, left, right, positions, kept

#define ATTENTION(T, suffix, width, tiles, queries, keys, blocks)                               \
    KERNEL_BOUNDS(attention_w##width##_q##queries##_##suffix, THREADS, blocks_of(width, blocks), \
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
    KERNEL(attention_##suffix, THREADS, (PARAMETERS(T), int width), attend_plainly<T>(ARGUMENTS, width))

FOR_ELEMENTS(ATTENTION_OF_ANY_WIDTH)
