// The block that runs, its threads, and where they wait for each other or share memory.
#pragma once

#include "emulation/types.h"

#include <cstddef>

namespace emulation {

// Completes a collective: writes the result of every lane into its payload. Payloads are by lane, null for lanes that
// take no part.
using Resolver = void (*)(void* const* payloads);

struct Block {
    uint3 index, size, grid;
    unsigned char* dynamic_shared;
};

struct Thread {
    uint3 index;
    unsigned lane;
    Block* block;
    // Copies that were started and not waited for, see `copy_async`.
    struct Copies* copies;
};

// The thread that runs.
extern __thread Thread* current __attribute__((tls_model("initial-exec")));

// Ends the launch with an error.
[[noreturn]] void fail(const char* message);
void barrier();
// Waits until all lanes of `mask` are at the same collective; the last one resolves it.
void collective(unsigned mask, Resolver resolver, void* payload);
// The block's memory for the variable with this `key`, the same for all threads.
void* shared(const void* key, size_t bytes, size_t alignment);
// Copies 16 bytes, the first `present` of them from `from`, the rest 0. The target is NaN until the copy is waited for.
void copy_async(void* to, const void* from, unsigned present);
void commit_copies();
// Waits for all groups of copies but the last `pending` ones.
void wait_for_copies(unsigned pending);

template <typename T, size_t N>
T (&shared_array(const void* key))[N] {
    return *static_cast<T(*)[N]>(shared(key, sizeof(T[N]), alignof(T) > 16 ? alignof(T) : 16));
}

inline void check_aligned(const void* pointer, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(pointer) % bytes) fail("an access that is not aligned");
}

}  // namespace emulation

#define SHARED_ARRAY(type, name, count) \
    static char name##_key;             \
    auto& name = emulation::shared_array<type, count>(&name##_key)
#define DYNAMIC_SHARED(name) unsigned char* const name = emulation::current->block->dynamic_shared

#define threadIdx (emulation::current->index)
#define blockIdx (emulation::current->block->index)
#define blockDim (emulation::current->block->size)
#define gridDim (emulation::current->block->grid)
