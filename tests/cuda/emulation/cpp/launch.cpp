// Launches of kernels by name, checked as a driver checks them; the interface that Rust calls.

#include "executor.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace emulation {

namespace {

Kernel*& kernels() {
    static Kernel* first = nullptr;
    return first;
}

const Kernel* kernel_named(const char* name) {
    const Kernel* kernel = kernels();
    while (kernel && strcmp(kernel->name, name)) kernel = kernel->next;
    return kernel;
}

// Whether the path of a source file ends with this name and `.cu`.
bool is_file(const char* path, const std::string& source) {
    const char* slash = strrchr(path, '/');
    return (slash ? slash + 1 : path) == source + ".cu";
}

thread_local Executor executor_of_thread;

}  // namespace

std::string format(const char* form, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, form);
    vsnprintf(text, sizeof(text), form, arguments);
    va_end(arguments);
    return text;
}

void add(Kernel* kernel) {
    kernel->next = kernels();
    kernels() = kernel;
}

}  // namespace emulation

// A letter per parameter of a kernel; null if no kernel has this name.
extern "C" const char* embedrun_emulation_signature(const char* name) {
    const emulation::Kernel* kernel = emulation::kernel_named(name);
    return kernel ? kernel->signature : nullptr;
}

// Runs a kernel. Returns false with a `message` on an error. `source` is its file without `.cu`, and `kinds` has a letter
// per argument; a caller that knows neither, as a driver does not, passes null.
extern "C" bool embedrun_emulation_run(const char* source, const char* name, const uint32_t* grid, const uint32_t* block,
                                       uint32_t shared_bytes, const void* const* parameters, const char* kinds,
                                       char* message, size_t capacity) {
    using namespace emulation;
    Executor& e = executor_of_thread;
    e.error.clear();
    const Kernel* kernel = kernel_named(name);
    const uint64_t threads = uint64_t{block[0]} * block[1] * block[2];
    const uint64_t blocks = uint64_t{grid[0]} * grid[1] * grid[2];
    if (!kernel) {
        e.error = "unknown kernel";
    } else if (source && !is_file(kernel->source, source)) {
        e.error = format("the kernel is in %s, not in %s.cu", kernel->source, source);
    } else if (kinds && strcmp(kernel->signature, kinds)) {
        e.error = format("arguments of the types %s for parameters of the types %s", kinds, kernel->signature);
    } else if (threads == 0 || threads > kernel->threads || threads > MOST_THREADS || block[2] > 64) {
        e.error = format("a block of %llu threads, the maximum is %u", (unsigned long long)threads, kernel->threads);
    } else if (blocks == 0 || grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535) {
        e.error = format("an invalid grid of %u, %u, %u blocks", grid[0], grid[1], grid[2]);
    } else if (shared_bytes > MOST_SHARED) {
        e.error = format("%u bytes of shared memory, the maximum is %zu", shared_bytes, MOST_SHARED);
    } else {
        e.prepare(threads);
        e.kernel = kernel;
        e.parameters = parameters;
        e.size = {block[0], block[1], block[2]};
        e.grid = {grid[0], grid[1], grid[2]};
        e.dynamic_bytes = shared_bytes;
        uint64_t number = 0;
        for (uint32_t z = 0; z < grid[2]; z++)
            for (uint32_t y = 0; y < grid[1]; y++)
                for (uint32_t x = 0; x < grid[0] && e.error.empty(); x++) {
                    e.index = {x, y, z};
                    e.run_block(number++);
                    if (!e.error.empty()) e.error += format(" (block %u, %u, %u)", x, y, z);
                }
    }
    if (e.error.empty()) return true;
    snprintf(message, capacity, "%s: %s", name, e.error.c_str());
    return false;
}
