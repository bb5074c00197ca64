// Reads of global memory and atomics. One thread runs at a time, so every access is atomic.
#pragma once

#include "emulation/block.h"

#include <utility>

template <typename T>
inline T __ldg(const T* pointer) {
    emulation::check_aligned(pointer, sizeof(T));
    return *pointer;
}

template <typename T>
inline T atomicExch(T* to, T value) {
    return std::exchange(*to, value);
}
template <typename T>
inline T atomicAdd(T* to, T value) {
    return atomicExch(to, T(*to + value));
}
template <typename T>
inline T atomicMax(T* to, T value) {
    return atomicExch(to, *to < value ? value : *to);
}
template <typename T>
inline T atomicMin(T* to, T value) {
    return atomicExch(to, value < *to ? value : *to);
}
template <typename T>
inline T atomicCAS(T* to, T compare, T value) {
    const T old = *to;
    if (old == compare) *to = value;
    return old;
}
