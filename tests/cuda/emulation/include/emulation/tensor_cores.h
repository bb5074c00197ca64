// The tensor cores' loads and products, asynchronous copies and exp2, with the names that `mma.cuh` gives them.
// Included by `mma.cuh` in place of the instructions.
#pragma once

#include "common.cuh"

namespace emulation {

struct MatrixLoad {
    const void* row;
    uint32_t* registers;
};

// Lane 8i + r names row r of matrix i; each lane gets two neighbours of a row, or of a column if TRANSPOSED. The eight
// rows of a matrix must be in different banks: a conflict would be correct, but slow.
template <bool TRANSPOSED>
void load_matrices(void* const* payloads) {
    uint16_t matrices[4][8][8];
    unsigned banks[4] = {};
    for (int lane = 0; lane < 32; lane++) {
        const void* const row = static_cast<const MatrixLoad*>(payloads[lane])->row;
        memcpy(matrices[lane / 8][lane % 8], row, 16);
        banks[lane / 8] |= 1u << reinterpret_cast<uintptr_t>(row) / 16 % 8;
    }
    for (const unsigned of_matrix : banks)
        if (of_matrix != 0xff) fail("rows of a matrix are in the same banks");
    for (int lane = 0; lane < 32; lane++) {
        uint32_t* const registers = static_cast<MatrixLoad*>(payloads[lane])->registers;
        const int line = lane / 4, first = lane % 4 * 2;
        for (int i = 0; i < 4; i++) {
            const auto& matrix = matrices[i];
            const uint32_t low = TRANSPOSED ? matrix[first][line] : matrix[line][first];
            const uint32_t high = TRANSPOSED ? matrix[first + 1][line] : matrix[line][first + 1];
            registers[i] = low | high << 16;
        }
    }
}

struct Product {
    float* c;
    const uint32_t* a;
    uint32_t b[2];
};

template <typename T>
void multiply_matrices(void* const* payloads) {
    float a[16][16], b[16][8], c[16][8];
    const auto value = [](uint32_t bits, int half) { return to_float(T{static_cast<uint16_t>(bits >> 16 * half)}); };
    for (int lane = 0; lane < 32; lane++) {
        const Product& product = *static_cast<const Product*>(payloads[lane]);
        const int group = lane / 4, first = lane % 4 * 2;
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 4; i++) a[group + i % 2 * 8][first + i / 2 * 8 + half] = value(product.a[i], half);
            for (int i = 0; i < 2; i++) b[first + i * 8 + half][group] = value(product.b[i], half);
            for (int i = 0; i < 2; i++) c[group + i * 8][first + half] = product.c[2 * i + half];
        }
    }
    for (int row = 0; row < 16; row++)
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
    for (int lane = 0; lane < 32; lane++) {
        const Product& product = *static_cast<const Product*>(payloads[lane]);
        const int group = lane / 4, first = lane % 4 * 2;
        for (int i = 0; i < 4; i++) product.c[i] = c[group + i / 2 * 8][first + i % 2];
    }
}

}  // namespace emulation

inline void load_matrices(uint32_t (&registers)[4], const void* row) {
    emulation::check_aligned(row, 16);
    emulation::MatrixLoad load{row, registers};
    emulation::collective(ALL_LANES, emulation::load_matrices<false>, &load);
}

inline void load_matrices_transposed(uint32_t (&registers)[4], const void* row) {
    emulation::check_aligned(row, 16);
    emulation::MatrixLoad load{row, registers};
    emulation::collective(ALL_LANES, emulation::load_matrices<true>, &load);
}

template <typename T>
inline void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    emulation::Product product{c, a, {b0, b1}};
    emulation::collective(ALL_LANES, emulation::multiply_matrices<T>, &product);
}

inline void copy_async(void* shared, const void* from, bool present) {
    emulation::copy_async(shared, from, present ? 16 : 0);
}

inline void commit_copies() { emulation::commit_copies(); }

template <int PENDING>
inline void wait_for_copies() {
    emulation::wait_for_copies(PENDING);
}

inline float exp2_fast(float value) { return exp2f(value); }
