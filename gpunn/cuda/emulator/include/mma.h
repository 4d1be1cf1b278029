// Stands for CUDA's header of this name: products of small matrices that the lanes of a warp hold together.
#pragma once
#include "cuda_bf16.h"

namespace nvcuda {
namespace wmma {

struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
namespace precision {
struct tf32 {};
}
enum layout_t { mem_row_major, mem_col_major };

}  // namespace wmma
}  // namespace nvcuda

namespace gpunn_emulator {
namespace wmma {

using namespace ::nvcuda::wmma;

// What an element is stored as, and the number it stands for in a product. The products of what is not an integer or a
// double are exact in double; the sum of an element is rounded once, where the hardware rounds more often.
template <class T> struct Element {
    static constexpr bool known = false;
    typedef T stored;
};
#define GPUNN_WMMA_ELEMENT(type, stored_type, sum_type, expression)                                              \
    template <> struct Element<type> {                                                                           \
        static constexpr bool known = true;                                                                      \
        typedef stored_type stored;                                                                              \
        typedef sum_type sum;                                                                                    \
        static sum number(stored x) { return expression; }                                                       \
    };
GPUNN_WMMA_ELEMENT(__half, __half, double, __half2float(x))
GPUNN_WMMA_ELEMENT(__nv_bfloat16, __nv_bfloat16, double, __bfloat162float(x))
GPUNN_WMMA_ELEMENT(precision::tf32, float, double, __uint_as_float(__float_as_uint(x) & ~0x1fffu))
GPUNN_WMMA_ELEMENT(double, double, double, x)
GPUNN_WMMA_ELEMENT(signed char, signed char, long long, x)
GPUNN_WMMA_ELEMENT(unsigned char, unsigned char, long long, x)

// The last argument tells the type that is asked for.
inline float from_sum(double sum, bool, float) { return (float)sum; }
inline double from_sum(double sum, bool, double) { return sum; }
inline __half from_sum(double sum, bool, __half) { return __double2half(sum); }
inline int from_sum(long long sum, bool saturate, int) {
    if (saturate && sum != (int)sum) return sum < 0 ? -0x7fffffff - 1 : 0x7fffffff;
    return (int)sum;
}
inline double addend(__half x) { return __half2float(x); }
inline double addend(double x) { return x; }
inline double addend(float x) { return x; }
inline long long addend(int x) { return x; }

template <class T, class Other> struct Same { static constexpr bool value = false; };
template <class T> struct Same<T, T> { static constexpr bool value = true; };

constexpr bool is_shape(int m, int n, int k) {
    return k == 16 && ((m == 16 && n == 16) || (m == 32 && n == 8) || (m == 8 && n == 32));
}
template <class T> constexpr bool has_operand(int m, int n, int k) {
    return Element<T>::known && (Same<T, double>::value            ? m == 8 && n == 8 && k == 4
                                 : Same<T, precision::tf32>::value ? m == 16 && n == 16 && k == 8
                                                                   : is_shape(m, n, k));
}
template <class T> constexpr bool has_accumulator(int m, int n, int k) {
    return Same<T, double>::value  ? m == 8 && n == 8 && k == 4
           : Same<T, float>::value ? is_shape(m, n, k) || (m == 16 && n == 16 && k == 8)
                                   : (Same<T, __half>::value || Same<T, int>::value) && is_shape(m, n, k);
}

// Element i of a lane is number 32 * i + place_in_row(lane) of the matrix, by rows: it is rarely what the lane has written
// itself, so a missing barrier is seen. Operands of half precision have 16 elements in each lane: where the matrix has
// fewer, the rest repeats them.
constexpr int place_in_row(int lane) { return (11 * lane + 7) % 32; }
constexpr int lane_at(int place) { return (3 * place + 11) % 32; }

template <int rows_, int columns_, class T, int count> struct Held {
    typedef typename Element<T>::stored storage_element_type;
    typedef T element_type;
    static constexpr int rows = rows_, columns = columns_, num_elements = count, num_storage_elements = count;
    static constexpr int own = rows * columns / 32;
    storage_element_type x[count];
};
template <int rows_, int columns_, class T, int count> constexpr int Held<rows_, columns_, T, count>::rows;
template <int rows_, int columns_, class T, int count> constexpr int Held<rows_, columns_, T, count>::columns;
template <int rows_, int columns_, class T, int count> constexpr int Held<rows_, columns_, T, count>::num_elements;
template <int rows_, int columns_, class T, int count> constexpr int Held<rows_, columns_, T, count>::own;

template <int elements, class T> struct Count { static constexpr int value = elements / 32; };
template <int elements> struct Count<elements, __half> { static constexpr int value = 16; };

inline GPUNN_UNWATCHED void meet(void**, unsigned) {}

// All lanes come here; that orders nothing between them.
__forceinline__ void together() {
    int nothing;
    warp_collective(0xffffffffu, &nothing, meet);
}

template <class Matrix> __forceinline__ int place(int i, int stride, bool by_rows) {
    int number = 32 * (i % Matrix::own) + place_in_row((int)current.thread->lane);
    int row = number / Matrix::columns, column = number % Matrix::columns;
    return by_rows ? row * stride + column : column * stride + row;
}

template <class T> __forceinline__ void check_stride(unsigned stride) {
    check_aligned((const char*)0 + stride * sizeof(T), 16, "the stride of a wmma matrix, in bytes,");
}

template <class Matrix, class T> __forceinline__ void load(Matrix& to, const T* from, unsigned stride, bool by_rows) {
    check_stride<T>(stride);
    together();
    for (int i = 0; i < Matrix::num_elements; i++) to.x[i] = from[place<Matrix>(i, (int)stride, by_rows)];
}

template <class A, class B, class C, class D> struct Product {
    const A* a;
    const B* b;
    const C* c;
    D* d;
    bool saturate;
};

template <class A, class B, class C, class D> GPUNN_UNWATCHED void product_operation(void** payloads, unsigned lanes) {
    typedef Product<A, B, C, D> Payload;
    typedef Element<typename A::element_type> Number;
    if (lanes != 0xffffffffu) return;  // it is reported
    typename Number::sum a[A::rows * A::columns], b[B::rows * B::columns], sums[D::rows * D::columns];
    for (int i = 0; i < A::rows * A::columns; i++)
        a[i] = Number::number(((Payload*)payloads[lane_at(i % 32)])->a->x[i / 32]);
    for (int i = 0; i < B::rows * B::columns; i++)
        b[i] = Number::number(((Payload*)payloads[lane_at(i % 32)])->b->x[i / 32]);
    for (int row = 0; row < D::rows; row++)
        for (int column = 0; column < D::columns; column++) {
            int i = row * D::columns + column;
            sums[i] = addend(((Payload*)payloads[lane_at(i % 32)])->c->x[i / 32]);
            for (int k = 0; k < A::columns; k++) sums[i] += a[row * A::columns + k] * b[k * B::columns + column];
        }
    for (int i = 0; i < D::rows * D::columns; i++) {
        Payload& payload = *(Payload*)payloads[lane_at(i % 32)];
        payload.d->x[i / 32] = from_sum(sums[i], payload.saturate, typename D::element_type());
    }
}

}  // namespace wmma
}  // namespace gpunn_emulator

namespace nvcuda {
namespace wmma {

template <class Use, int m, int n, int k, class T, class Layout = void> class fragment;

template <int m, int n, int k, class T, class Layout>
class fragment<matrix_a, m, n, k, T, Layout>
    : public ::gpunn_emulator::wmma::Held<m, k, T, ::gpunn_emulator::wmma::Count<m * k, T>::value> {
    static_assert(::gpunn_emulator::wmma::has_operand<T>(m, n, k), "wmma has no fragment of this type in this shape");
};
template <int m, int n, int k, class T, class Layout>
class fragment<matrix_b, m, n, k, T, Layout>
    : public ::gpunn_emulator::wmma::Held<k, n, T, ::gpunn_emulator::wmma::Count<k * n, T>::value> {
    static_assert(::gpunn_emulator::wmma::has_operand<T>(m, n, k), "wmma has no fragment of this type in this shape");
};
template <int m, int n, int k, class T>
class fragment<accumulator, m, n, k, T> : public ::gpunn_emulator::wmma::Held<m, n, T, m * n / 32> {
    static_assert(::gpunn_emulator::wmma::has_accumulator<T>(m, n, k),
                  "wmma has no fragment of this type in this shape");
};

template <class Use, int m, int n, int k, class T, class Stored>
__forceinline__ void load_matrix_sync(fragment<Use, m, n, k, T, row_major>& to, const Stored* from, unsigned stride) {
    ::gpunn_emulator::wmma::load(to, from, stride, true);
}
template <class Use, int m, int n, int k, class T, class Stored>
__forceinline__ void load_matrix_sync(fragment<Use, m, n, k, T, col_major>& to, const Stored* from, unsigned stride) {
    ::gpunn_emulator::wmma::load(to, from, stride, false);
}
template <int m, int n, int k, class T>
__forceinline__ void load_matrix_sync(fragment<accumulator, m, n, k, T>& to, const T* from, unsigned stride,
                                      layout_t layout) {
    ::gpunn_emulator::wmma::load(to, from, stride, layout == mem_row_major);
}

template <int m, int n, int k, class T>
__forceinline__ void store_matrix_sync(T* to, const fragment<accumulator, m, n, k, T>& from, unsigned stride,
                                       layout_t layout) {
    typedef fragment<accumulator, m, n, k, T> Matrix;
    ::gpunn_emulator::wmma::check_stride<T>(stride);
    ::gpunn_emulator::wmma::together();
    for (int i = 0; i < Matrix::num_elements; i++)
        to[::gpunn_emulator::wmma::place<Matrix>(i, (int)stride, layout == mem_row_major)] = from.x[i];
}

template <class Use, int m, int n, int k, class T, class Layout>
__forceinline__ void fill_fragment(fragment<Use, m, n, k, T, Layout>& to,
                                   typename ::gpunn_emulator::identity<
                                       typename ::gpunn_emulator::wmma::Element<T>::stored>::type value) {
    for (int i = 0; i < to.num_elements; i++) to.x[i] = value;
}

template <int m, int n, int k, class D, class T, class LayoutA, class LayoutB, class C>
__forceinline__ void mma_sync(fragment<accumulator, m, n, k, D>& d, const fragment<matrix_a, m, n, k, T, LayoutA>& a,
                              const fragment<matrix_b, m, n, k, T, LayoutB>& b,
                              const fragment<accumulator, m, n, k, C>& c, bool saturate = false) {
    typedef fragment<matrix_a, m, n, k, T, LayoutA> A;
    typedef fragment<matrix_b, m, n, k, T, LayoutB> B;
    ::gpunn_emulator::wmma::Product<A, B, fragment<accumulator, m, n, k, C>, fragment<accumulator, m, n, k, D>> product{
        &a, &b, &c, &d, saturate};
    ::gpunn_emulator::warp_collective(
        0xffffffffu, &product,
        ::gpunn_emulator::wmma::product_operation<A, B, fragment<accumulator, m, n, k, C>,
                                                  fragment<accumulator, m, n, k, D>>);
}

__forceinline__ float __float_to_tf32(float x) {
    unsigned bits = __float_as_uint(x);
    if (x != x) return __uint_as_float(0x7fffffffu);
    return __uint_as_float((bits + 0x1000u) & ~0x1fffu);  // ties go away from zero
}

}  // namespace wmma
}  // namespace nvcuda
