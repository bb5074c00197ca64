// What a thread of the host needs to run blocks: fibers, the block's shared memory, and the error that ended a launch.
#pragma once

#include "emulation/block.h"
#include "emulation/kernel.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace emulation {

constexpr size_t MOST_THREADS = 1024;
constexpr size_t MOST_SHARED = 227 * 1024;

struct Copies {
    struct Copy {
        void* to;
        unsigned char bytes[16];
    };
    // The last group is open.
    std::vector<std::vector<Copy>> groups{1};

    void reset();
    // Whether every copy was waited for.
    bool are_complete() const { return groups.size() == 1 && groups[0].empty(); }
};

enum class State { Ready, Barrier, Collective, Done };

// A thread of the block.
struct Fiber : Thread {
    size_t number;
    void* stack;
    State state;
    // The collective that it waits at.
    unsigned mask;
    Resolver resolver;
    void* payload;
    Copies pending;
};

// An array in static shared memory.
struct StaticArray {
    const void* key;
    size_t offset, bytes;
};

struct Executor : Block {
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<char*> stacks;
    // The fibers in the order in which they run, and the position of each in that order.
    std::vector<unsigned> order, position;
    unsigned char* memory = nullptr;
    size_t dynamic_bytes = 0, static_end = 0;
    std::vector<StaticArray> arrays;
    size_t threads = 0, ready = 0, at_barrier = 0, done = 0;
    void* host_stack = nullptr;
    const Kernel* kernel = nullptr;
    const void* const* parameters = nullptr;
    std::string error;

    Executor() = default;
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    ~Executor();

    // Makes the fibers and the memory that blocks of `threads` threads need.
    void prepare(size_t threads);
    // Runs the block `number` of the launch, at `index`, to its end or to an `error`.
    void run_block(uint64_t number);

    // Fills the shared memory with NaN and drops the arrays of the last block.
    void reset_shared();
    // Reports writes beyond the block's shared memory as the `error`.
    void check_shared();
};

// The executor and the fiber of the thread that runs. The fibers of an executor stay on its thread of the host.
inline Executor* executor() { return static_cast<Executor*>(current->block); }
inline Fiber* this_fiber() { return static_cast<Fiber*>(current); }

std::string format(const char* form, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emulation
