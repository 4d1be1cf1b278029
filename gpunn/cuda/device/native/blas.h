// Linear algebra on memory of this process: what the libraries with cuBLAS's name compute.
//
// Matrices are views with a step between rows and one between columns, so a transposed matrix is a view as well. Sums
// are in one order whatever the machine is busy with: results are the same from run to run.
#pragma once
#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace gpunn_device {

// ---- elements -------------------------------------------------------------------------------------------------------

typedef std::complex<float> Complex;
typedef std::complex<double> DoubleComplex;
typedef std::ptrdiff_t Index;

struct Half {
    std::uint16_t bits;
    Half() = default;
    explicit Half(float x) {
#if defined(__FLT16_MANT_DIG__) && (defined(__x86_64__) || defined(__clang__) || __GNUC__ >= 13)
        const _Float16 half = (_Float16)x;
        std::memcpy(&bits, &half, 2);
#else
        std::uint32_t u;
        std::memcpy(&u, &x, 4);
        const std::uint32_t sign = u >> 16 & 0x8000, size = u & 0x7FFFFFFF;
        if (size > 0x7F800000) bits = (std::uint16_t)(sign | 0x7E00);
        else if (size >= 0x477FF000) bits = (std::uint16_t)(sign | 0x7C00);  // rounds to infinity
        else if (size >= 0x38800000) {
            bits = (std::uint16_t)(sign | (size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13);
        } else {
            bits = (std::uint16_t)(sign | (std::uint32_t)std::nearbyint(std::ldexp(std::fabs(x), 24)));
        }
#endif
    }
    operator float() const {
#if defined(__FLT16_MANT_DIG__) && (defined(__x86_64__) || defined(__clang__) || __GNUC__ >= 13)
        _Float16 half;
        std::memcpy(&half, &bits, 2);
        return (float)half;
#else
        const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
        const float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                           : exponent     ? std::ldexp((float)(mantissa + 1024), exponent - 25)
                                          : std::ldexp((float)mantissa, -24);
        return bits & 0x8000 ? -size : size;
#endif
    }
};

struct Bfloat16 {
    std::uint16_t bits;
    Bfloat16() = default;
    explicit Bfloat16(float x) {
        std::uint32_t u;
        std::memcpy(&u, &x, 4);
        bits = x != x ? 0x7FFF : (std::uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
    }
    operator float() const {
        const std::uint32_t u = (std::uint32_t)bits << 16;
        float x;
        std::memcpy(&x, &u, 4);
        return x;
    }
};

struct Int8Complex {
    std::int8_t re, im;
};

template <class T> struct RealOf {
    typedef T type;
};
template <class R> struct RealOf<std::complex<R>> {
    typedef R type;
};
template <class T> using Real = typename RealOf<T>::type;

template <class T> constexpr bool is_complex = !std::is_same<T, Real<T>>::value;

template <class T> T conjugate(T x) {
    if constexpr (is_complex<T>) return std::conj(x);
    else return x;
}

// An element as the type that sums are in.
template <class T, class E> T widened(E x) {
    if constexpr (std::is_same<E, Int8Complex>::value) return T(x.re, x.im);
    else return (T)x;
}

// |x|, or |re| + |im|: how the BLAS measures what it compares.
template <class T> Real<T> size_of(T x) {
    if constexpr (is_complex<T>) return std::fabs(x.real()) + std::fabs(x.imag());
    else return std::fabs(x);
}

// ---- views ----------------------------------------------------------------------------------------------------------

template <class T> struct View {
    T* data;
    Index row, column;  // steps between rows and between columns
    bool conjugated = false;

    T& operator()(Index i, Index j) const { return data[i * row + j * column]; }
    View at(Index i, Index j) const { return {data + i * row + j * column, row, column, conjugated}; }
    View transposed() const { return {data, column, row, conjugated}; }
};

// A vector of the BLAS; with a negative step the last element comes first.
template <class T> struct Vector {
    T* data;
    Index step;

    Vector(T* data, Index n, Index step) : data(step < 0 ? data + (1 - n) * step : data), step(step) {}
    T& operator[](Index i) const { return data[i * step]; }
};

// Memory that a thread keeps between calls: what is packed, and sums that have a wider type than the result.
template <int which> char* scratch(std::size_t bytes) {
    struct Free {
        void operator()(char* memory) const { std::free(memory); }
    };
    static thread_local std::unique_ptr<char, Free> memory;
    static thread_local std::size_t held = 0;
    if (held < bytes) {
        const std::size_t whole = (bytes + 4095) / 4096 * 4096;
        memory.reset((char*)std::aligned_alloc(64, whole));
        held = memory ? whole : 0;
        if (!memory) throw std::bad_alloc();
    }
    return memory.get();
}

// ---- products of matrices -------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int vector_bytes = 64, vector_registers = 32;
#elif defined(__AVX__)
constexpr int vector_bytes = 32, vector_registers = 16;
#elif defined(__aarch64__)
constexpr int vector_bytes = 16, vector_registers = 32;
#else
constexpr int vector_bytes = 16, vector_registers = 16;
#endif

template <class R> struct Lanes {
    typedef R type __attribute__((vector_size(vector_bytes), may_alias));
    static constexpr int count = vector_bytes / (int)sizeof(R);
};

// What is kept in registers while a tile of the product is summed. The tile is two vectors high (complex: one of real
// and one of imaginary parts) and as wide as there are registers for.
template <class T> struct Tile {
    typedef Real<T> R;
    static constexpr int parts = is_complex<T> ? 2 : 1;
    static constexpr int rows = 2 / parts * Lanes<R>::count;
    static constexpr int columns = (vector_registers == 32 ? 12 : 6) / (is_complex<T> ? 2 : 1);
    static constexpr Index depth = 256 / parts;               // of what is packed at a time
    static constexpr Index high = rows * (is_complex<T> ? 8 : 6), wide = columns * 256;
};

// out = sum over p of left(:, p) right(p, :), both packed; out holds whole columns, real parts before imaginary ones.
template <class T> void sum_tile(Index depth, const Real<T>* left, const Real<T>* right, Real<T>* out) {
    typedef typename Lanes<Real<T>>::type V;
    constexpr int n = Lanes<Real<T>>::count, columns = Tile<T>::columns;
    V first[columns], second[columns];
#pragma GCC unroll 16
    for (int j = 0; j < columns; j++) first[j] = second[j] = V{};
    for (; depth; depth--) {
        const V a = *(const V*)left, b = *(const V*)(left + n);
        left += 2 * n;
        if constexpr (is_complex<T>) {
#pragma GCC unroll 16
            for (int j = 0; j < columns; j++) {
                first[j] += a * right[2 * j];
                second[j] += a * right[2 * j + 1];
                first[j] -= b * right[2 * j + 1];
                second[j] += b * right[2 * j];
            }
            right += 2 * columns;
        } else {
#pragma GCC unroll 16
            for (int j = 0; j < columns; j++) {
                first[j] += a * right[j];
                second[j] += b * right[j];
            }
            right += columns;
        }
    }
#pragma GCC unroll 16
    for (int j = 0; j < columns; j++) {
        *(V*)(out + 2 * n * j) = first[j];
        *(V*)(out + 2 * n * j + n) = second[j];
    }
}

// Packs rows of a matrix in groups of `width`, each group column by column, with zeros for rows that are not there. A
// complex column of the left factor has its real parts first (apart), one of the right factor pairs.
template <class T, int width, bool apart, class E>
void pack(View<const E> from, Index rows, Index depth, Real<T>* to) {
    constexpr int parts = Tile<T>::parts;
    for (Index begin = 0; begin < rows; begin += width, to += width * parts * depth) {
        const Index here = std::min<Index>(width, rows - begin);
        const E* source = from.data + begin * from.row;
        auto put = [&](Index i, Index p, T x) {
            Real<T>* column = to + p * width * parts;
            if constexpr (is_complex<T>) {
                column[apart ? i : 2 * i] = x.real();
                column[apart ? width + i : 2 * i + 1] = from.conjugated ? -x.imag() : x.imag();
            } else {
                column[i] = x;
            }
        };
        if (here < width) std::memset(to, 0, sizeof(Real<T>) * width * parts * depth);
        if (from.row == 1 && here == width) {
            for (Index p = 0; p < depth; p++)
                for (Index i = 0; i < width; i++) put(i, p, widened<T>(source[i + p * from.column]));
        } else {
            for (Index i = 0; i < here; i++)
                for (Index p = 0; p < depth; p++) put(i, p, widened<T>(source[i * from.row + p * from.column]));
        }
    }
}

// c = beta c, without reading it if beta is 0.
template <class T> void scale(Index m, Index n, T beta, View<T> c) {
    if (beta == T(1)) return;
    for (Index j = 0; j < n; j++)
        for (Index i = 0; i < m; i++) c(i, j) = beta == T(0) ? T(0) : beta * c(i, j);
}

// c = alpha a b + beta c, with a of m rows and k columns. Where alpha is 0 a and b are not read, nor c where beta is.
template <class T, class E>
void multiply(Index m, Index n, Index k, T alpha, View<const E> a, View<const E> b, T beta, View<T> c) {
    typedef Tile<T> S;
    typedef Real<T> R;
    if (m <= 0 || n <= 0) return;
    if (k <= 0 || alpha == T(0)) return scale(m, n, beta, c);
    alignas(64) R tile[2 * Lanes<R>::count * S::columns];
    auto packed_bytes = [&](Index lines, Index most, int width) {
        return sizeof(R) * S::parts * (std::min(lines, most) + width) * std::min(k, S::depth);
    };
    R* left = (R*)scratch<0>(packed_bytes(m, S::high, S::rows));
    R* right = (R*)scratch<1>(packed_bytes(n, S::wide, S::columns));
    auto add = [&](Index i0, Index j0, bool begins) {
        const Index rows = std::min<Index>(S::rows, m - i0), columns = std::min<Index>(S::columns, n - j0);
        auto value = [&](const R* sums, Index i) {
            if constexpr (is_complex<T>) return T(sums[i], sums[S::rows + i]);
            else return sums[i];
        };
        auto write = [&](auto step) {
            for (Index j = 0; j < columns; j++) {
                const R* sums = tile + j * S::rows * S::parts;
                T* __restrict out = &c(i0, j0 + j);
                if (!begins || beta == T(1))
                    for (Index i = 0; i < rows; i++) out[i * step] += alpha * value(sums, i);
                else if (beta == T(0))
                    for (Index i = 0; i < rows; i++) out[i * step] = alpha * value(sums, i);
                else
                    for (Index i = 0; i < rows; i++) out[i * step] = beta * out[i * step] + alpha * value(sums, i);
            }
        };
        if (c.row == 1) write(std::integral_constant<Index, 1>());
        else write(c.row);
    };
    for (Index j0 = 0; j0 < n; j0 += S::wide) {
        const Index wide = std::min(S::wide, n - j0);
        for (Index p = 0; p < k; p += S::depth) {
            const Index depth = std::min(S::depth, k - p);
            pack<T, S::columns, false>(b.at(p, j0).transposed(), wide, depth, right);
            for (Index i0 = 0; i0 < m; i0 += S::high) {
                const Index high = std::min(S::high, m - i0);
                pack<T, S::rows, true>(a.at(i0, p), high, depth, left);
                for (Index j = 0; j < wide; j += S::columns)
                    for (Index i = 0; i < high; i += S::rows) {
                        sum_tile<T>(depth, left + i * S::parts * depth, right + j * S::parts * depth, tile);
                        add(i0 + i, j0 + j, p == 0);
                    }
            }
        }
    }
}

// The same with a result of another type: it is rounded once, after all is summed.
template <class T, class E, class O>
void multiply_rounded(Index m, Index n, Index k, T alpha, View<const E> a, View<const E> b, T beta, View<O> c) {
    if constexpr (std::is_same<T, O>::value) {
        multiply<T, E>(m, n, k, alpha, a, b, beta, c);
    } else {
        const Index most = std::max<Index>(1, (Index)(1 << 20) / std::max<Index>(m, 1));  // columns at a time
        for (Index j0 = 0; j0 < n; j0 += most) {
            const Index wide = std::min(most, n - j0);
            T* sums = (T*)scratch<2>(sizeof(T) * (std::size_t)(m * wide));
            multiply<T, E>(m, wide, k, alpha, a, b.at(0, j0), T(0), View<T>{sums, 1, m});
            for (Index j = 0; j < wide; j++)
                for (Index i = 0; i < m; i++) {
                    O& out = c(i, j0 + j);
                    out = O(beta == T(0) ? sums[i + j * m] : beta * (T)out + sums[i + j * m]);
                }
        }
    }
}

template <class T> View<const T> read_only(View<T> a) { return {a.data, a.row, a.column, a.conjugated}; }

// ---- triangles ------------------------------------------------------------------------------------------------------

constexpr Index small = 32;  // up to which plain loops do it

// Solves a x = b for each of n columns of b, in place; a is a triangle of m rows.
template <class T> void solve_triangle(bool lower, bool unit, Index m, Index n, View<const T> a, View<T> b) {
    if (m <= 0 || n <= 0) return;
    if (m <= small) {
        T triangle[small][small];  // by columns
        for (Index j = 0; j < m; j++)
            for (Index i = lower ? j : 0; i < (lower ? m : j + 1); i++)
                triangle[j][i] = a.conjugated ? conjugate(a(i, j)) : a(i, j);
        for (Index j = 0; j < n; j++) {
            T x[small];
            for (Index i = 0; i < m; i++) x[i] = b(i, j);
            for (Index step = 0; step < m; step++) {
                const Index p = lower ? step : m - 1 - step;
                if (!unit) x[p] /= triangle[p][p];
                const T known = x[p];
                for (Index i = lower ? p + 1 : 0; i < (lower ? m : p); i++) x[i] -= known * triangle[p][i];
            }
            for (Index i = 0; i < m; i++) b(i, j) = x[i];
        }
        return;
    }
    const Index top = (m / 2 + small - 1) / small * small, rest = m - top;
    if (lower) {
        solve_triangle(lower, unit, top, n, a, b);
        multiply<T, T>(rest, n, top, T(-1), a.at(top, 0), read_only(b), T(1), b.at(top, 0));
        solve_triangle(lower, unit, rest, n, a.at(top, top), b.at(top, 0));
    } else {
        solve_triangle(lower, unit, rest, n, a.at(top, top), b.at(top, 0));
        multiply<T, T>(top, n, rest, T(-1), a.at(0, top), read_only(b.at(top, 0)), T(1), b);
        solve_triangle(lower, unit, top, n, a, b);
    }
}

// The lower or upper triangle of c = alpha a a^T + beta c, with a of n rows and k columns.
template <class T> void rank_update(bool lower, Index n, Index k, T alpha, View<const T> a, T beta, View<T> c) {
    if (n <= 0) return;
    if (n <= small) {
        T block[small * small];
        multiply<T, T>(n, n, k, alpha, a, a.transposed(), T(0), View<T>{block, 1, n});
        for (Index j = 0; j < n; j++)
            for (Index i = lower ? j : 0; i < (lower ? n : j + 1); i++)
                c(i, j) = block[i + j * n] + (beta == T(0) ? T(0) : beta * c(i, j));
        return;
    }
    const Index top = (n / 2 + small - 1) / small * small, rest = n - top;
    rank_update(lower, top, k, alpha, a, beta, c);
    rank_update(lower, rest, k, alpha, a.at(top, 0), beta, c.at(top, top));
    if (lower) multiply<T, T>(rest, top, k, alpha, a.at(top, 0), a.transposed(), beta, c.at(top, 0));
    else multiply<T, T>(top, rest, k, alpha, a, a.at(top, 0).transposed(), beta, c.at(0, top));
}

// ---- factors --------------------------------------------------------------------------------------------------------

template <class T> void swap_rows(Index i, Index other, Index columns, View<T> a) {
    if (i != other)
        for (Index j = 0; j < columns; j++) std::swap(a(i, j), a(other, j));
}

// a = P L U in place. Pivots count from 1; without a place for them rows stay where they are. Returns the number, from
// 1, of the first pivot that is 0, or 0.
template <class T> int factorise(Index n, View<T> a, int* pivots) {
    int info = 0;
    for (Index p = 0; p < n; p++) {
        if (pivots) {
            Index best = p;
            for (Index i = p + 1; i < n; i++)
                if (size_of(a(i, p)) > size_of(a(best, p))) best = i;
            pivots[p] = (int)best + 1;
            swap_rows(p, best, n, a);
        }
        const T pivot = a(p, p);
        if (pivot == T(0)) {
            if (!info) info = (int)p + 1;
            continue;
        }
        for (Index i = p + 1; i < n; i++) a(i, p) /= pivot;
        for (Index j = p + 1; j < n; j++) {
            const T factor = a(p, j);
            const T* __restrict below = &a(0, p);
            T* __restrict column = &a(0, j);
            for (Index i = p + 1; i < n; i++) column[i] -= below[i] * factor;  // rows lie side by side
        }
    }
    return info;
}

// Solves A x = b, A^T x = b or A^H x = b in place, from the factors of A.
template <class T>
void solve_factorised(bool transposed, bool conjugated, Index n, Index columns, View<const T> a, const int* pivots,
                      View<T> b) {
    if (!transposed) {
        if (pivots)
            for (Index i = 0; i < n; i++) swap_rows<T>(i, pivots[i] - 1, columns, b);
        solve_triangle<T>(true, true, n, columns, a, b);
        solve_triangle<T>(false, false, n, columns, a, b);
    } else {
        a = a.transposed();
        a.conjugated = conjugated;
        solve_triangle<T>(true, false, n, columns, a, b);
        solve_triangle<T>(false, true, n, columns, a, b);
        if (pivots)
            for (Index i = n - 1; i >= 0; i--) swap_rows<T>(i, pivots[i] - 1, columns, b);
    }
}

// c = the inverse of what a holds the factors of, with infinities and NaN if there is none. Returns the number of the
// first pivot that is 0, or 0.
template <class T> int invert(Index n, View<const T> a, const int* pivots, View<T> c) {
    int info = 0;
    for (Index i = n - 1; i >= 0; i--)
        if (a(i, i) == T(0)) info = (int)i + 1;
    for (Index j = 0; j < n; j++)
        for (Index i = 0; i < n; i++) c(i, j) = T(i == j);
    solve_factorised<T>(false, false, n, n, a, pivots, c);
    return info;
}

// ---- vectors --------------------------------------------------------------------------------------------------------

// Sums f(0) ... f(n - 1) in lanes that the compiler can keep in vectors.
template <class T, class F> T sum(Index n, F f) {
    constexpr Index lanes = 4 * Lanes<Real<T>>::count;
    T sums[lanes] = {};
    Index i = 0;
    for (; i + lanes <= n; i += lanes)
        for (Index j = 0; j < lanes; j++) sums[j] += f(i + j);
    for (Index j = 0; i + j < n; j++) sums[j] += f(i + j);
    for (Index half = lanes / 2; half; half /= 2)
        for (Index j = 0; j < half; j++) sums[j] += sums[j + half];
    return sums[0];
}

template <class T> T dot(Index n, Vector<const T> x, Vector<const T> y, bool conjugated) {
    if (conjugated) return sum<T>(n, [&](Index i) { return conjugate(x[i]) * y[i]; });
    if (x.step == 1 && y.step == 1) return sum<T>(n, [a = x.data, b = y.data](Index i) { return a[i] * b[i]; });
    return sum<T>(n, [&](Index i) { return x[i] * y[i]; });
}

template <class T> Real<T> norm(Index n, Vector<const T> x) {
    auto squares = [&](auto zero) {
        typedef decltype(zero) W;
        return sum<W>(n, [&](Index i) {
            if constexpr (is_complex<T>) return (W)x[i].real() * (W)x[i].real() + (W)x[i].imag() * (W)x[i].imag();
            else return (W)x[i] * (W)x[i];
        });
    };
    const double plain = squares(0.0);
    if ((plain > 1e-280 && plain < 1e300) || plain != plain) return (Real<T>)std::sqrt(plain);
    if (std::is_same<Real<T>, float>::value) return (Real<T>)std::sqrt(plain);  // no square of a float is out of range
    Real<T> largest = 0;
    for (Index i = 0; i < n; i++) {
        if constexpr (is_complex<T>) largest = std::max({largest, std::abs(x[i].real()), std::abs(x[i].imag())});
        else largest = std::max(largest, std::abs(x[i]));
    }
    if (largest == 0 || std::isinf(largest)) return largest;
    return largest * std::sqrt(sum<Real<T>>(n, [&](Index i) {
               if constexpr (is_complex<T>) {
                   const Real<T> re = x[i].real() / largest, im = x[i].imag() / largest;
                   return re * re + im * im;
               } else {
                   return (x[i] / largest) * (x[i] / largest);
               }
           }));
}

// y = alpha a x + beta y, with a of m rows and n columns.
template <class T>
void multiply_vector(Index m, Index n, T alpha, View<const T> a, Vector<const T> x, T beta, Vector<T> y) {
    if (m <= 0 || n <= 0) return;
    if (beta != T(1))
        for (Index i = 0; i < m; i++) y[i] = beta == T(0) ? T(0) : beta * y[i];
    if (alpha == T(0)) return;
    if (a.row == 1 && !a.conjugated) {  // down the columns
        T* sums = (T*)scratch<0>(sizeof(T) * (std::size_t)m);
        std::fill(sums, sums + m, T(0));
        for (Index j = 0; j < n; j++) {
            const T factor = x[j];
            const T* __restrict column = &a(0, j);
            T* __restrict out = sums;
            for (Index i = 0; i < m; i++) out[i] += column[i] * factor;
        }
        for (Index i = 0; i < m; i++) y[i] += alpha * sums[i];
        return;
    }
    for (Index i = 0; i < m; i++)
        y[i] += alpha * dot<T>(n, Vector<const T>(&a(i, 0), n, a.column), x, a.conjugated);
}

}  // namespace gpunn_device
