// The best documents of every query, kept while tiles of scores come by. A block per query: what is better than the last
// of the list is gathered in shared memory, and sorted into the list when there is no room for more.

#include "common.cuh"

constexpr int THREADS = 256;
constexpr int MOST = 1024;         // of a list
constexpr int ROOM = 2 * MOST;     // the list and what is gathered

// Whether the first comes before the second: by descending score, and of equal scores by ordinal.
__device__ __forceinline__ bool is_better(float a, long long a_ordinal, float b, long long b_ordinal) {
    return a > b || (a == b && a_ordinal < b_ordinal);
}

// Sorts the ROOM entries, the best first (bitonic, Batcher, 1968).
__device__ __forceinline__ void sort(float* scores, long long* ordinals) {
    for (int size = 2; size <= ROOM; size *= 2) {
        for (int distance = size / 2; distance > 0; distance /= 2) {
            __syncthreads();
            for (int pair = threadIdx.x; pair < ROOM / 2; pair += THREADS) {
                const int one = 2 * pair - pair % distance, other = one + distance;
                const bool descending = (one & size) == 0;
                const bool ordered = !is_better(scores[other], ordinals[other], scores[one], ordinals[one]);
                if (ordered != descending) {
                    const float score = scores[one];
                    const long long ordinal = ordinals[one];
                    scores[one] = scores[other];
                    ordinals[one] = ordinals[other];
                    scores[other] = score;
                    ordinals[other] = ordinal;
                }
            }
        }
    }
    __syncthreads();
}

// Merges a tile of scores, `[queries, documents]`, whose first document has the ordinal `first`, into the lists. The
// unused end of a list has the score -∞ and the ordinal -1. Scores that are no numbers are left out.
__device__ __forceinline__ void merge(const float* tile, float* best, long long* best_ordinals, int documents, int k,
                                      long long first) {
    SHARED_ARRAY(float, scores, ROOM);
    SHARED_ARRAY(long long, ordinals, ROOM);
    SHARED_ARRAY(int, gathered, 1);
    const long long query = blockIdx.x;
    const float* const row = tile + query * documents;
    // What fills the room comes after everything else.
    constexpr long long NONE = 0x7fffffffffffffffLL;
    const auto clear = [&](int from) {
        for (int place = from + threadIdx.x; place < ROOM; place += THREADS) {
            scores[place] = -INFINITY;
            ordinals[place] = NONE;
        }
    };
    for (int place = threadIdx.x; place < k; place += THREADS) {
        const long long ordinal = best_ordinals[query * k + place];
        scores[place] = best[query * k + place];
        ordinals[place] = ordinal < 0 ? NONE : ordinal;
    }
    clear(k);
    if (threadIdx.x == 0) gathered[0] = 0;
    __syncthreads();
    for (int from = 0; from < documents; from += THREADS) {
        const int document = from + threadIdx.x;
        const float score = document < documents ? row[document] : -INFINITY;
        // A NaN is not better than anything.
        if (document < documents && is_better(score, first + document, scores[k - 1], ordinals[k - 1])) {
            const int place = k + atomicAdd(&gathered[0], 1);
            scores[place] = score;
            ordinals[place] = first + document;
        }
        __syncthreads();
        // There has to be room for what all threads may find next.
        if (k + gathered[0] + THREADS > ROOM || from + THREADS >= documents) {
            sort(scores, ordinals);
            clear(k);
            if (threadIdx.x == 0) gathered[0] = 0;
            __syncthreads();
        }
    }
    for (int place = threadIdx.x; place < k; place += THREADS) {
        best[query * k + place] = scores[place];
        best_ordinals[query * k + place] = ordinals[place] == NONE ? -1 : ordinals[place];
    }
}
KERNEL(top_k, THREADS,
       (const float* tile, float* best, long long* best_ordinals, int documents, int k, long long first),
       merge(tile, best, best_ordinals, documents, k, first))
