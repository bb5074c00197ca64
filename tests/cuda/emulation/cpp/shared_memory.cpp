// The shared memory of a block, between red zones: dynamic memory first, then the static arrays in the order of use.

#include "executor.h"

#include <cstring>

namespace emulation {

namespace {

constexpr size_t MOST_STATIC_SHARED = 48 * 1024;
// Offset of the dynamic memory.
constexpr size_t DYNAMIC_START = 1024;
constexpr size_t ZONE = 256;
// NaN in every type of numbers.
constexpr unsigned char POISON = 0xff;

bool is_intact(const unsigned char* zone) {
    for (size_t i = 0; i < ZONE; i++)
        if (zone[i] != POISON) return false;
    return true;
}

}  // namespace

void Executor::reset_shared() {
    dynamic_shared = memory + DYNAMIC_START;
    static_end = DYNAMIC_START + (dynamic_bytes + ZONE + 127) / 128 * 128;
    arrays.clear();
    memset(memory, POISON, static_end + MOST_STATIC_SHARED);
}

void Executor::check_shared() {
    if (!is_intact(dynamic_shared + dynamic_bytes) || !is_intact(dynamic_shared - ZONE))
        error = "a write beyond the dynamic shared memory";
    for (const StaticArray& array : arrays)
        if (!is_intact(memory + array.offset + array.bytes)) error = "a write beyond an array in shared memory";
}

void* shared(const void* key, size_t bytes, size_t alignment) {
    Executor* e = executor();
    for (const StaticArray& array : e->arrays)
        if (array.key == key) return e->memory + array.offset;
    const size_t offset = (e->static_end + alignment - 1) / alignment * alignment;
    e->static_end = offset + bytes + ZONE;
    if (e->static_end > DYNAMIC_START + e->dynamic_bytes + MOST_STATIC_SHARED) fail("too much static shared memory");
    e->arrays.push_back({key, offset, bytes});
    return e->memory + offset;
}

}  // namespace emulation
