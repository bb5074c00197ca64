// Matrix products on tensor cores, the loads that feed them, and asynchronous copies to shared memory.
//
// The fragments are those of the PTX ISA documentation. With `group` = lane / 4 and `place` = lane % 4, a lane holds of
//   A, 16×16: rows group and group + 8 at columns 2⋅place.. (registers 0 and 1) and 2⋅place + 8.. (registers 2 and 3);
//   B, 16×8:  column group at rows 2⋅place.. (register 0) and 2⋅place + 8.. (register 1);
//   C, 16×8:  rows group (values 0 and 1) and group + 8 (values 2 and 3) at columns 2⋅place...
#pragma once

#include "common.cuh"

#ifdef EMBEDRUN_EMULATED

namespace emulation {

struct MatrixLoad {
    const void* row;
    uint32_t* registers;
};

// Lane 8i + r passes the address of row r of matrix i; each lane gets two neighbours of a row, or of a column if
// TRANSPOSED. The rows of a matrix have to be in different banks: bank conflicts are correct but slow.
template <bool TRANSPOSED>
void load_matrices(void* const* payloads) {
    uint16_t matrices[4][8][8];
    unsigned banks[4] = {};
    for (int lane = 0; lane < 32; lane++) {
        const void* const row = static_cast<const MatrixLoad*>(payloads[lane])->row;
        memcpy(matrices[lane / 8][lane % 8], row, 16);
        banks[lane / 8] |= 1u << reinterpret_cast<uintptr_t>(row) / 16 % 8;
    }
    for (const unsigned matrix_banks : banks)
        if (matrix_banks != 0xff) fail("rows of a matrix are in the same banks");
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

#else

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Loads four matrices of 8×8 two-byte values from shared memory; lane 8i + r passes the address of row r of matrix i.
__device__ __forceinline__ void load_matrices(uint32_t (&registers)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Same as `load_matrices`, with each matrix transposed.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&registers)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// c += a⋅b
template <typename T>
__device__ __forceinline__ void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void multiply<__half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void multiply<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0,
                                                        uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Starts a copy of 16 bytes to shared memory; writes zeros if not `present`.
__device__ __forceinline__ void copy_async(void* shared, const void* from, bool present) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(from)), "r"(present ? 16 : 0)
                 : "memory");
}

// Ends a group of copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits for all of this thread's groups of copies except the last PENDING ones.
template <int PENDING>
__device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// 2 to the power of `value`; subnormal results are flushed to 0.
__device__ __forceinline__ float exp2_fast(float value) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(value));
    return power;
}

#endif
