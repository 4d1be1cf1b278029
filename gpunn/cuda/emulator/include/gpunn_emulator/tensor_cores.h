// ldmatrix, stmatrix and mma.sync, whose matrices lie in the registers of a warp: with g = lane / 4 and t = lane % 4,
// register r of A has row g + 8 (r % 2), a register of B column g, and both the elements from n (t + 4 (r / 2)) on,
// where n elements fill a register (for B, r in the place of r / 2); C and D have rows g and g + 8, columns 2t, 2t + 1.
#pragma once

namespace gpunn_emulator {
namespace ptx {

// Brings the lanes' row addresses together; every lane then reads its own two elements of each matrix, so that
// the checks know who read what.
struct MatrixRows {
    u16* mine;
    u16* all[32];
};

inline GPUNN_UNWATCHED void matrix_rows_operation(void** payloads, unsigned lanes) {
    for (unsigned to = 0; to < 32; to++)
        for (unsigned from = 0; from < 32; from++)
            if ((lanes >> to & 1) && (lanes >> from & 1))
                ((MatrixRows*)payloads[to])->all[from] = ((MatrixRows*)payloads[from])->mine;
}

// Where the first or second element of this lane in matrix m lies.
template <bool transposed> inline u16* matrix_element(const MatrixRows& rows, u32 m, u32 second) {
    u32 lane = current.thread->lane, g = lane / 4, i = lane % 4 * 2 + second;
    return transposed ? rows.all[8 * m + i] + g : rows.all[8 * m + g] + i;
}

#ifdef GPUNN_EMULATOR_COUNT
// The hardware reads whole rows.
GPUNN_UNWATCHED inline u16 element_of(const u16* at) { return *at; }
#else
__forceinline__ u16 element_of(const u16* at) { return *at; }
#endif

template <u32 matrices, bool transposed> __forceinline__ Vector<b32, matrices> ldmatrix(char* row) {
    if (current.thread->lane < 8 * matrices) check_aligned(row, 16, "a row of ldmatrix");
#ifdef GPUNN_EMULATOR_COUNT
    if (current.thread->lane < 8 * matrices) note_matrix_row(row);
#endif
    MatrixRows rows;
    rows.mine = (u16*)row;
    warp_collective(0xffffffffu, &rows, matrix_rows_operation);
    Vector<b32, matrices> out;
    for (u32 m = 0; m < matrices; m++)
        out.elements[m] = element_of(matrix_element<transposed>(rows, m, 0)) |
                          (u32)element_of(matrix_element<transposed>(rows, m, 1)) << 16;
    return out;
}

template <bool transposed, u32 matrices> __forceinline__ void stmatrix(char* row, Vector<b32, matrices> in) {
    if (current.thread->lane < 8 * matrices) check_aligned(row, 16, "a row of stmatrix");
    MatrixRows rows;
    rows.mine = (u16*)row;
    warp_collective(0xffffffffu, &rows, matrix_rows_operation);
    for (u32 m = 0; m < matrices; m++) {
        *matrix_element<transposed>(rows, m, 0) = (u16)in.elements[m];
        *matrix_element<transposed>(rows, m, 1) = (u16)(in.elements[m] >> 16);
    }
}

// What a register of A or B holds. Of a tf32, the last 13 bits are not looked at.
struct Tf32Elements {
    static constexpr u32 count = 1;
    static f64 get(b32 bits, u32) { return bit_cast<f32>(bits & ~0x1fffu); }
};
struct F16Elements {
    static constexpr u32 count = 2;
    static f64 get(b32 bits, u32 i) { return half_to_float((u16)(bits >> 16 * i)); }
};
struct Bf16Elements {
    static constexpr u32 count = 2;
    static f64 get(b32 bits, u32 i) { return bfloat16_to_float((u16)(bits >> 16 * i)); }
};
struct S8Elements {
    static constexpr u32 count = 4;
    static f64 get(b32 bits, u32 i) { return (s8)(bits >> 8 * i); }
};
struct U8Elements {
    static constexpr u32 count = 4;
    static f64 get(b32 bits, u32 i) { return (u8)(bits >> 8 * i); }
};

struct Product {
    b32 a[4], b[2];
    f64 d[4];
};

// 16 x 8 elements of D, of 4 n or 8 n terms each. Products are exact, and so are sums of integers. The sum of other
// elements is rounded once, where the hardware rounds (or cuts) more often, in an order that is not documented.
template <class A, class B, u32 halves> GPUNN_UNWATCHED void product_operation(void** payloads, unsigned) {
    const u32 n = A::count, terms = 4 * n * halves;
    f64 a[16][terms], b[8][terms];  // B by columns
    for (u32 lane = 0; lane < 32; lane++) {
        const Product& p = *(Product*)payloads[lane];
        u32 g = lane / 4, k = lane % 4 * n;
        for (u32 half = 0; half < halves; half++)
            for (u32 i = 0; i < n; i++) {
                u32 at = 4 * n * half + k + i;
                a[g][at] = A::get(p.a[2 * half], i);
                a[g + 8][at] = A::get(p.a[2 * half + 1], i);
                b[g][at] = B::get(p.b[half], i);
            }
    }
    for (u32 lane = 0; lane < 32; lane++) {
        Product& p = *(Product*)payloads[lane];
        for (u32 i = 0; i < 4; i++) {
            const f64 *row = a[lane / 4 + i / 2 * 8], *column = b[lane % 4 * 2 + i % 2];
            f64 sum = p.d[i];
            for (u32 k = 0; k < terms; k++) sum += row[k] * column[k];
            p.d[i] = sum;
        }
    }
}

template <class T> struct accumulator {
    static f64 get(T x) { return number(x); }
    static T of(f64 x, bool) { return format<T>::of(x, Rounding::rn); }
};
template <> struct accumulator<s32> {
    static f64 get(s32 x) { return x; }
    static s32 of(f64 x, bool saturates) { return saturates ? saturated((s64)x) : (s32)(u32)(s64)x; }
};

template <class A, class B, u32 halves, class D, bool saturates, class C>
__forceinline__ Vector<D, 4> mma(Vector<b32, 2 * halves> a, Vector<b32, halves> b, Vector<C, 4> c) {
    Product product;
    for (u32 i = 0; i < 2 * halves; i++) product.a[i] = a.elements[i];
    for (u32 i = 0; i < halves; i++) product.b[i] = b.elements[i];
    for (u32 i = 0; i < 4; i++) product.d[i] = accumulator<C>::get(c.elements[i]);
    warp_collective(0xffffffffu, &product, product_operation<A, B, halves>);
    Vector<D, 4> d;
    for (u32 i = 0; i < 4; i++) d.elements[i] = accumulator<D>::of(product.d[i], saturates);
    return d;
}

// C and D of float16 are two registers of two elements.
template <class A, class B, u32 halves>
__forceinline__ Vector<f16x2, 2> mma_f16(Vector<b32, 2 * halves> a, Vector<b32, halves> b, Vector<f16x2, 2> c) {
    return bit_cast<Vector<f16x2, 2>>(mma<A, B, halves, f16, false>(a, b, bit_cast<Vector<f16, 4>>(c)));
}

}  // namespace ptx
}  // namespace gpunn_emulator
