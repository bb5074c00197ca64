// Barriers, fences, shuffles and votes.
#pragma once

#include "emulation/block.h"

#include <cstring>

inline void __syncthreads() { emulation::barrier(); }
inline void __threadfence() {}
inline void __threadfence_block() {}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    emulation::collective(mask, [](void* const*) {}, emulation::current);
}

namespace emulation {

struct Shuffle {
    uint64_t value, result;
    // The lane whose value this lane gets.
    unsigned source;
};

template <typename T>
T shuffle(unsigned mask, T value, unsigned source) {
    static_assert(sizeof(T) <= 8);
    Shuffle shuffle{0, 0, source};
    memcpy(&shuffle.value, &value, sizeof(T));
    collective(
        mask,
        [](void* const* payloads) {
            for (int lane = 0; lane < 32; lane++) {
                if (!payloads[lane]) continue;
                auto* to = static_cast<Shuffle*>(payloads[lane]);
                const auto* from = static_cast<const Shuffle*>(payloads[to->source]);
                // The value of a lane that takes no part is undefined: NaN shows that it was used.
                to->result = from ? from->value : ~uint64_t{0};
            }
        },
        &shuffle);
    memcpy(&value, &shuffle.result, sizeof(T));
    return value;
}

}  // namespace emulation

template <typename T>
inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned lane = emulation::current->lane;
    return emulation::shuffle(mask, value, (lane & ~(width - 1u)) | (source & (width - 1u)));
}
template <typename T>
inline T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32) {
    const unsigned lane = emulation::current->lane, source = lane ^ distance;
    return emulation::shuffle(mask, value, source <= (lane | (width - 1u)) ? source : lane);
}
template <typename T>
inline T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const unsigned lane = emulation::current->lane;
    return emulation::shuffle(mask, value, (lane & (width - 1u)) >= distance ? lane - distance : lane);
}
template <typename T>
inline T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
    const unsigned lane = emulation::current->lane;
    return emulation::shuffle(mask, value, (lane & (width - 1u)) + distance < unsigned(width) ? lane + distance : lane);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
    struct Vote {
        int predicate;
        unsigned result;
    } vote{predicate, 0};
    emulation::collective(
        mask,
        [](void* const* payloads) {
            unsigned result = 0;
            for (int lane = 0; lane < 32; lane++)
                if (payloads[lane] && static_cast<Vote*>(payloads[lane])->predicate) result |= 1u << lane;
            for (int lane = 0; lane < 32; lane++)
                if (payloads[lane]) static_cast<Vote*>(payloads[lane])->result = result;
        },
        &vote);
    return vote.result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }
