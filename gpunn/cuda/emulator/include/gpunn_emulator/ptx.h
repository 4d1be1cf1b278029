// What kernels/ptx.cuh has: asynchronous copies and tensor cores. There the functions are told.
//
// They are here, and not beside their PTX, so that a report names the line of the kernel that called them.
#pragma once
#include "half_types.h"

// --- asynchronous copies ---------------------------------------------------------------------------------

template <int BYTES> __forceinline__ void cp_async(void* shared, const void* global, int source_bytes = BYTES) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "cp.async copies 4, 8 or 16 bytes");
    gpunn_emulator::async_copy(shared, global, BYTES, (unsigned)source_bytes);
}

__forceinline__ void cp_async_commit() { gpunn_emulator::async_commit(); }

template <int NEWEST> __forceinline__ void cp_async_wait() { gpunn_emulator::async_wait(NEWEST); }

// --- tensor cores ----------------------------------------------------------------------------------------

__forceinline__ unsigned to_tf32(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffffffu;  // the one NaN of the instruction
    return (bits + 0x1000u) & ~0x1fffu;  // half of the last place kept: ties go away from zero
}

__forceinline__ unsigned short to_f16(float x) { return gpunn_emulator::float_to_half(x); }
__forceinline__ float from_f16(unsigned short bits) { return gpunn_emulator::half_to_float(bits); }
__forceinline__ unsigned short to_bf16(float x) { return gpunn_emulator::float_to_bfloat16(x); }

namespace gpunn_emulator {

// Brings the lanes' row addresses together; every lane then reads its own two elements of each matrix, so that
// the checks know who read what.
struct MatrixRows {
    const unsigned short* mine;
    const unsigned short* all[32];
};

#ifdef GPUNN_EMULATOR_COUNT
// The hardware reads whole rows.
GPUNN_UNWATCHED inline unsigned short matrix_element(const unsigned short* row, unsigned i) { return row[i]; }
#else
__forceinline__ unsigned short matrix_element(const unsigned short* row, unsigned i) { return row[i]; }
#endif

inline GPUNN_UNWATCHED void matrix_rows_operation(void** payloads, unsigned lanes) {
    for (unsigned to = 0; to < 32; to++)
        for (unsigned from = 0; from < 32; from++)
            if ((lanes >> to & 1) && (lanes >> from & 1))
                ((MatrixRows*)payloads[to])->all[from] = ((MatrixRows*)payloads[from])->mine;
}

template <int MATRICES, bool TRANSPOSED>
__forceinline__ void load_matrices(unsigned (&out)[MATRICES], const void* row) {
    static_assert(MATRICES == 1 || MATRICES == 2 || MATRICES == 4, "ldmatrix loads 1, 2 or 4 matrices");
    unsigned lane = current.thread->lane, g = lane / 4, t = lane % 4;
    if (lane < 8 * MATRICES) check_aligned(row, 16, "a row of ldmatrix");
#ifdef GPUNN_EMULATOR_COUNT
    if (lane < 8 * MATRICES) note_matrix_row(row);
#endif
    MatrixRows rows;
    rows.mine = (const unsigned short*)row;
    warp_collective(0xffffffffu, &rows, matrix_rows_operation);
    for (unsigned m = 0; m < MATRICES; m++) {
        const unsigned short* const* matrix = rows.all + 8 * m;
        unsigned first = TRANSPOSED ? matrix_element(matrix[2 * t], g) : matrix_element(matrix[g], 2 * t);
        unsigned second = TRANSPOSED ? matrix_element(matrix[2 * t + 1], g) : matrix_element(matrix[g], 2 * t + 1);
        out[m] = first | second << 16;
    }
}

struct Product {
    unsigned a[4], b[2];
    float d[4];
};

// What a register of A or B holds: one tf32, of which the last 13 bits are not looked at, or two 16-bit elements.
struct Tf32 {
    static const unsigned terms = 8, per_register = 1;
    static float element(unsigned bits, unsigned) { return __uint_as_float(bits & ~0x1fffu); }
};
struct Float16 {
    static const unsigned terms = 16, per_register = 2;
    static float element(unsigned bits, unsigned i) { return half_to_float((unsigned short)(bits >> 16 * i)); }
};
struct Bfloat16 {
    static const unsigned terms = 16, per_register = 2;
    static float element(unsigned bits, unsigned i) { return __uint_as_float(bits >> 16 * i << 16); }
};

// 16 x 8 elements of D. The products are exact; the sum of an element is rounded once, where the hardware
// rounds (or cuts) more often, in an order that is not documented.
template <class Type> GPUNN_UNWATCHED void product_operation(void** payloads, unsigned) {
    const unsigned n = Type::per_register, half = Type::terms / 2;
    float a[16][Type::terms], b[8][Type::terms];  // B by columns
    for (unsigned lane = 0; lane < 32; lane++) {
        const Product& p = *(Product*)payloads[lane];
        unsigned g = lane / 4, k = lane % 4 * n;
        for (unsigned i = 0; i < n; i++) {
            a[g][k + i] = Type::element(p.a[0], i);
            a[g + 8][k + i] = Type::element(p.a[1], i);
            a[g][k + half + i] = Type::element(p.a[2], i);
            a[g + 8][k + half + i] = Type::element(p.a[3], i);
            b[g][k + i] = Type::element(p.b[0], i);
            b[g][k + half + i] = Type::element(p.b[1], i);
        }
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        Product& p = *(Product*)payloads[lane];
        for (unsigned i = 0; i < 4; i++) {
            const float *row = a[lane / 4 + i / 2 * 8], *column = b[lane % 4 * 2 + i % 2];
            double sum = p.d[i];
            for (unsigned k = 0; k < Type::terms; k++) sum += (double)row[k] * (double)column[k];
            p.d[i] = (float)sum;
        }
    }
}

template <class Type>
__forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    Product product{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}, {d[0], d[1], d[2], d[3]}};
    warp_collective(0xffffffffu, &product, product_operation<Type>);
    for (unsigned i = 0; i < 4; i++) d[i] = product.d[i];
}

}  // namespace gpunn_emulator

template <int MATRICES> __forceinline__ void ldmatrix(unsigned (&out)[MATRICES], const void* row) {
    gpunn_emulator::load_matrices<MATRICES, false>(out, row);
}
template <int MATRICES> __forceinline__ void ldmatrix_transposed(unsigned (&out)[MATRICES], const void* row) {
    gpunn_emulator::load_matrices<MATRICES, true>(out, row);
}

__forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    gpunn_emulator::multiply<gpunn_emulator::Tf32>(d, a, b);
}
__forceinline__ void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    gpunn_emulator::multiply<gpunn_emulator::Float16>(d, a, b);
}
__forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    gpunn_emulator::multiply<gpunn_emulator::Bfloat16>(d, a, b);
}
