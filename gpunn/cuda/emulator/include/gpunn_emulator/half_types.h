// __half and __nv_bfloat16: stored in 16 bits, computed in float and rounded to nearest even after every
// operation. For + - * / that is exact: float has more than twice their digits, so rounding twice cannot
// differ from once. What has more digits than float is rounded to odd on the way there, which has the same effect.
#pragma once
#include "half_bits.h"

struct __half;
struct __nv_bfloat16;

namespace gpunn_emulator {

// Where x has no float: of the two beside it the one whose last bit is 1.
inline float to_odd(double x) {
    float nearest = (float)x;
    if ((double)nearest == x || x != x) return nearest;
    unsigned bits = bit_cast<unsigned>(nearest);
    if (fabs((double)nearest) > fabs(x)) bits--;
    return bit_cast<float>(bits | 1);
}
inline float to_odd(unsigned long long x) {
    if (x >> 53) x = (x & ~0xfffull) | (x & 0xfff ? 0x800 : 0);
    return to_odd((double)x);
}
inline float to_odd(long long x) { return x < 0 ? -to_odd(0 - (unsigned long long)x) : to_odd((unsigned long long)x); }

// The sum, rounded to odd as well.
inline double sum_to_odd(double a, double b) {
    double sum = a + b, part = sum - a;
    double error = (a - (sum - part)) + (b - part);
    if (error == 0 || !__builtin_isfinite(sum) || error != error) return sum;
    unsigned long long bits = bit_cast<unsigned long long>(sum);
    if ((error > 0) != (sum > 0)) bits--;
    return bit_cast<double>(bits | 1);
}

// What the 16 bits of a type mean.
template <class T> struct Half;
template <> struct Half<__half> {
    static float to_float(unsigned short bits) { return half_to_float(bits); }
    static unsigned short from_float(float x) { return float_to_half(x); }
};
template <> struct Half<__nv_bfloat16> {
    static float to_float(unsigned short bits) { return bfloat16_to_float(bits); }
    static unsigned short from_float(float x) { return float_to_bfloat16(x); }
};

template <class T> inline float wide(T x) { return Half<T>::to_float(x.__x); }
template <class T> inline T nearest(float x) { return bit_cast<T>(Half<T>::from_float(x)); }
template <class T> inline T nearest_fma(T a, T b, T c) {
    double product = (double)wide(a) * (double)wide(b), addend = wide(c);
    return nearest<T>(to_odd(sum_to_odd(product, addend)));
}
template <class T> inline T toward_zero(float x) {
    unsigned short bits = Half<T>::from_float(x);
    return bit_cast<T>((unsigned short)(fabsf(Half<T>::to_float(bits)) > fabsf(x) ? bits - 1 : bits));
}
template <class T> inline T downward(float x) {
    unsigned short bits = Half<T>::from_float(x);
    if (Half<T>::to_float(bits) > x) bits = (unsigned short)(bits & 0x8000 ? bits + 1 : bits - 1);
    return bit_cast<T>(bits);
}
template <class T> inline T upward(float x) {
    unsigned short bits = Half<T>::from_float(x);
    if (Half<T>::to_float(bits) < x) bits = (unsigned short)(bits & 0x8000 ? bits - 1 : bits + 1);
    return bit_cast<T>(bits);
}

// +0 is the larger of the zeros.
inline float larger(float a, float b) { return a > b || b != b || (a == b && __builtin_signbit(b)) ? a : b; }
inline float smaller(float a, float b) { return a < b || b != b || (a == b && __builtin_signbit(a)) ? a : b; }
inline float larger_or_nan(float a, float b) { return a != a ? a : b != b ? b : larger(a, b); }
inline float smaller_or_nan(float a, float b) { return a != a ? a : b != b ? b : smaller(a, b); }

inline signed char to_schar(float x) { return to_integer<signed char>(x, -128, 127); }
inline unsigned char to_uchar(float x) { return to_integer<unsigned char>(x, 0, 255); }
inline short to_short(float x) { return to_integer<short>(x, -32768, 32767); }
inline unsigned short to_ushort(float x) { return to_integer<unsigned short>(x, 0, 65535); }

}  // namespace gpunn_emulator

// --- the types -----------------------------------------------------------------------------------------------------

// `members` are the conversions that CUDA's macros of the kind of __CUDA_NO_HALF_CONVERSIONS__ leave out.
#define GPUNN_HALF_TYPE(name, pair, members)                                                                           \
    struct __attribute__((aligned(2))) name##_raw {                                                                    \
        unsigned short x;                                                                                              \
    };                                                                                                                 \
    struct __attribute__((aligned(4))) pair##_raw {                                                                    \
        unsigned short x, y;                                                                                           \
    };                                                                                                                 \
    struct __attribute__((aligned(2))) name {                                                                          \
        unsigned short __x;                                                                                            \
        name() = default;                                                                                              \
        __forceinline__ constexpr name(name##_raw raw) : __x(raw.x) {}                                                 \
        __forceinline__ operator name##_raw() const volatile { return {__x}; }                                         \
        members                                                                                                        \
    };                                                                                                                 \
    struct __attribute__((aligned(4))) pair {                                                                          \
        name x, y;                                                                                                     \
        pair() = default;                                                                                              \
        __forceinline__ constexpr pair(name x, name y) : x(x), y(y) {}                                                 \
        __forceinline__ constexpr pair(pair##_raw raw) : x(name##_raw{raw.x}), y(name##_raw{raw.y}) {}                 \
        __forceinline__ operator pair##_raw() const { return {x.__x, y.__x}; }                                         \
    };

#define GPUNN_HALF_MEMBERS(name, other)                                                                                \
    explicit name(other);                                                                                              \
    name(float x) : __x(gpunn_emulator::Half<name>::from_float(x)) {}                                                  \
    name(double x) : name(gpunn_emulator::to_odd(x)) {}                                                                \
    name(int x) : name((double)x) {}                                                                                   \
    name(unsigned x) : name((double)x) {}                                                                              \
    name(long x) : name((long long)x) {}                                                                               \
    name(unsigned long x) : name((unsigned long long)x) {}                                                             \
    name(long long x) : name(gpunn_emulator::to_odd(x)) {}                                                             \
    name(unsigned long long x) : name(gpunn_emulator::to_odd(x)) {}                                                    \
    __forceinline__ operator float() const { return gpunn_emulator::wide(*this); }                                     \
    __forceinline__ operator bool() const { return (__x & 0x7fff) != 0; }                                              \
    __forceinline__ operator char() const { return gpunn_emulator::to_schar(*this); }                                  \
    __forceinline__ operator signed char() const { return gpunn_emulator::to_schar(*this); }                           \
    __forceinline__ operator unsigned char() const { return gpunn_emulator::to_uchar(*this); }                         \
    __forceinline__ operator short() const { return gpunn_emulator::to_short(*this); }                                 \
    __forceinline__ operator unsigned short() const { return gpunn_emulator::to_ushort(*this); }                       \
    __forceinline__ operator int() const { return gpunn_emulator::to_int((float)*this); }                              \
    __forceinline__ operator unsigned() const { return gpunn_emulator::to_uint((float)*this); }                        \
    __forceinline__ operator long() const { return gpunn_emulator::to_longlong((float)*this); }                        \
    __forceinline__ operator unsigned long() const { return gpunn_emulator::to_ulonglong((float)*this); }              \
    __forceinline__ operator long long() const { return gpunn_emulator::to_longlong((float)*this); }                   \
    __forceinline__ operator unsigned long long() const { return gpunn_emulator::to_ulonglong((float)*this); }

// --- arithmetic ----------------------------------------------------------------------------------------------------

#define GPUNN_HALF_ARITHMETIC(name, pair, function, expression)                                                        \
    inline name __h##function(name x, name y) {                                                                        \
        float a = gpunn_emulator::wide(x), b = gpunn_emulator::wide(y);                                                \
        return gpunn_emulator::nearest<name>(expression);                                                              \
    }                                                                                                                  \
    inline pair __h##function##2(pair a, pair b) { return {__h##function(a.x, b.x), __h##function(a.y, b.y)}; }

#define GPUNN_HALF_SUM(name, pair, function, operation)                                                                \
    GPUNN_HALF_ARITHMETIC(name, pair, function, a operation b)                                                         \
    inline name __h##function##_rn(name a, name b) { return __h##function(a, b); }                                     \
    inline pair __h##function##2_rn(pair a, pair b) { return __h##function##2(a, b); }                                 \
    inline name __h##function##_sat(name a, name b) {                                                                  \
        return gpunn_emulator::nearest<name>(__saturatef(gpunn_emulator::wide(__h##function(a, b))));                  \
    }                                                                                                                  \
    inline pair __h##function##2_sat(pair a, pair b) {                                                                 \
        return {__h##function##_sat(a.x, b.x), __h##function##_sat(a.y, b.y)};                                         \
    }

#define GPUNN_HALF_FMA(name, pair, function, expression)                                                               \
    inline name __hfma##function(name x, name y, name z) {                                                             \
        name r = gpunn_emulator::nearest_fma(x, y, z);                                                                 \
        return expression;                                                                                             \
    }                                                                                                                  \
    inline pair __hfma2##function(pair a, pair b, pair c) {                                                            \
        return {__hfma##function(a.x, b.x, c.x), __hfma##function(a.y, b.y, c.y)};                                     \
    }

// Of double, so that the result is rounded as the true one is.
#define GPUNN_HALF_FUNCTION(name, pair, function, of_double)                                                           \
    inline name h##function(name a) {                                                                                  \
        return gpunn_emulator::nearest<name>(gpunn_emulator::to_odd(of_double((double)gpunn_emulator::wide(a))));      \
    }                                                                                                                  \
    inline pair h2##function(pair a) { return {h##function(a.x), h##function(a.y)}; }

// Where a NaN is compared, those with a `u` are true, the others false.
#define GPUNN_HALF_COMPARISON(name, pair, function, expression)                                                        \
    inline bool __h##function(name x, name y) {                                                                        \
        float a = gpunn_emulator::wide(x), b = gpunn_emulator::wide(y);                                                \
        return a == a && b == b && expression;                                                                         \
    }                                                                                                                  \
    inline bool __h##function##u(name x, name y) {                                                                     \
        float a = gpunn_emulator::wide(x), b = gpunn_emulator::wide(y);                                                \
        return a != a || b != b || expression;                                                                         \
    }                                                                                                                  \
    GPUNN_PAIR_COMPARISON(name, pair, function)                                                                        \
    GPUNN_PAIR_COMPARISON(name, pair, function##u)

#define GPUNN_PAIR_COMPARISON(name, pair, function)                                                                    \
    inline pair __h##function##2(pair a, pair b) {                                                                     \
        return {gpunn_emulator::nearest<name>(__h##function(a.x, b.x)),                                                \
                gpunn_emulator::nearest<name>(__h##function(a.y, b.y))};                                               \
    }                                                                                                                  \
    inline unsigned __h##function##2_mask(pair a, pair b) {                                                            \
        return (__h##function(a.x, b.x) ? 0xffffu : 0) | (__h##function(a.y, b.y) ? 0xffff0000u : 0);                  \
    }                                                                                                                  \
    inline bool __hb##function##2(pair a, pair b) { return __h##function(a.x, b.x) && __h##function(a.y, b.y); }

#define GPUNN_HALF_FUNCTIONS(name, pair)                                                                               \
    GPUNN_HALF_SUM(name, pair, add, +)                                                                                 \
    GPUNN_HALF_SUM(name, pair, sub, -)                                                                                 \
    GPUNN_HALF_SUM(name, pair, mul, *)                                                                                 \
    GPUNN_HALF_ARITHMETIC(name, pair, max, gpunn_emulator::larger(a, b))                                               \
    GPUNN_HALF_ARITHMETIC(name, pair, min, gpunn_emulator::smaller(a, b))                                              \
    inline name __hmax_nan(name a, name b) {                                                                           \
        return gpunn_emulator::nearest<name>(                                                                          \
            gpunn_emulator::larger_or_nan(gpunn_emulator::wide(a), gpunn_emulator::wide(b)));                          \
    }                                                                                                                  \
    inline name __hmin_nan(name a, name b) {                                                                           \
        return gpunn_emulator::nearest<name>(                                                                          \
            gpunn_emulator::smaller_or_nan(gpunn_emulator::wide(a), gpunn_emulator::wide(b)));                         \
    }                                                                                                                  \
    inline pair __hmax2_nan(pair a, pair b) { return {__hmax_nan(a.x, b.x), __hmax_nan(a.y, b.y)}; }                   \
    inline pair __hmin2_nan(pair a, pair b) { return {__hmin_nan(a.x, b.x), __hmin_nan(a.y, b.y)}; }                   \
    inline name __hdiv(name a, name b) {                                                                               \
        return gpunn_emulator::nearest<name>(gpunn_emulator::wide(a) / gpunn_emulator::wide(b));                       \
    }                                                                                                                  \
    inline pair __h2div(pair a, pair b) { return {__hdiv(a.x, b.x), __hdiv(a.y, b.y)}; }                               \
    inline name __hneg(name a) { return gpunn_emulator::nearest<name>(-gpunn_emulator::wide(a)); }                     \
    inline name __habs(name a) { return gpunn_emulator::nearest<name>(fabsf(gpunn_emulator::wide(a))); }               \
    inline pair __hneg2(pair a) { return {__hneg(a.x), __hneg(a.y)}; }                                                 \
    inline pair __habs2(pair a) { return {__habs(a.x), __habs(a.y)}; }                                                 \
    GPUNN_HALF_FMA(name, pair, , r)                                                                                    \
    GPUNN_HALF_FMA(name, pair, _sat, gpunn_emulator::nearest<name>(__saturatef(gpunn_emulator::wide(r))))              \
    GPUNN_HALF_FMA(name, pair, _relu, __hmax_nan(r, gpunn_emulator::nearest<name>(0.0f)))                              \
    inline pair __hcmadd(pair a, pair b, pair c) {                                                                     \
        return {__hfma(__hneg(a.y), b.y, __hfma(a.x, b.x, c.x)), __hfma(a.y, b.x, __hfma(a.x, b.y, c.y))};             \
    }                                                                                                                  \
    GPUNN_HALF_COMPARISON(name, pair, eq, a == b)                                                                      \
    GPUNN_HALF_COMPARISON(name, pair, ne, a != b)                                                                      \
    GPUNN_HALF_COMPARISON(name, pair, lt, a < b)                                                                       \
    GPUNN_HALF_COMPARISON(name, pair, le, a <= b)                                                                      \
    GPUNN_HALF_COMPARISON(name, pair, gt, a > b)                                                                       \
    GPUNN_HALF_COMPARISON(name, pair, ge, a >= b)                                                                      \
    inline bool __hisnan(name a) { return isnan(gpunn_emulator::wide(a)); }                                            \
    inline int __hisinf(name a) {                                                                                      \
        float x = gpunn_emulator::wide(a);                                                                             \
        return isinf(x) ? (x > 0 ? 1 : -1) : 0;                                                                        \
    }                                                                                                                  \
    inline pair __hisnan2(pair a) {                                                                                    \
        return {gpunn_emulator::nearest<name>(__hisnan(a.x)), gpunn_emulator::nearest<name>(__hisnan(a.y))};           \
    }                                                                                                                  \
    GPUNN_HALF_FUNCTION(name, pair, exp, exp)                                                                          \
    GPUNN_HALF_FUNCTION(name, pair, exp2, exp2)                                                                        \
    GPUNN_HALF_FUNCTION(name, pair, exp10, exp10)                                                                      \
    GPUNN_HALF_FUNCTION(name, pair, log, log)                                                                          \
    GPUNN_HALF_FUNCTION(name, pair, log2, log2)                                                                        \
    GPUNN_HALF_FUNCTION(name, pair, log10, log10)                                                                      \
    GPUNN_HALF_FUNCTION(name, pair, sqrt, sqrt)                                                                        \
    GPUNN_HALF_FUNCTION(name, pair, rsqrt, 1 / sqrt)                                                                   \
    GPUNN_HALF_FUNCTION(name, pair, rcp, 1 / )                                                                         \
    GPUNN_HALF_FUNCTION(name, pair, sin, sin)                                                                          \
    GPUNN_HALF_FUNCTION(name, pair, cos, cos)                                                                          \
    GPUNN_HALF_FUNCTION(name, pair, tanh, tanh)                                                                        \
    GPUNN_HALF_FUNCTION(name, pair, tanh_approx, tanh)                                                                 \
    GPUNN_HALF_FUNCTION(name, pair, floor, floor)                                                                      \
    GPUNN_HALF_FUNCTION(name, pair, ceil, ceil)                                                                        \
    GPUNN_HALF_FUNCTION(name, pair, trunc, trunc)                                                                      \
    GPUNN_HALF_FUNCTION(name, pair, rint, rint)

// --- operators -----------------------------------------------------------------------------------------------------

#define GPUNN_HALF_OPERATOR(name, operation, function)                                                                 \
    inline name operator operation(name a, name b) { return function(a, b); }                                          \
    __forceinline__ name& operator operation##=(name& a, name b) { return a = function(a, b); }

#define GPUNN_HALF_OPERATORS(name, add, sub, mul, div, neg, one)                                                       \
    GPUNN_HALF_OPERATOR(name, +, add)                                                                                  \
    GPUNN_HALF_OPERATOR(name, -, sub)                                                                                  \
    GPUNN_HALF_OPERATOR(name, *, mul)                                                                                  \
    GPUNN_HALF_OPERATOR(name, /, div)                                                                                  \
    inline name operator+(name a) { return a; }                                                                        \
    inline name operator-(name a) { return neg(a); }                                                                   \
    __forceinline__ name& operator++(name& a) { return a = add(a, one); }                                              \
    __forceinline__ name& operator--(name& a) { return a = sub(a, one); }                                              \
    __forceinline__ name operator++(name& a, int) {                                                                    \
        name old = a;                                                                                                  \
        return ++a, old;                                                                                               \
    }                                                                                                                  \
    __forceinline__ name operator--(name& a, int) {                                                                    \
        name old = a;                                                                                                  \
        return --a, old;                                                                                               \
    }

// What compares two pairs begins with __hb and ends with 2.
#define GPUNN_HALF_ORDER(name, prefix, suffix)                                                                         \
    inline bool operator==(name a, name b) { return prefix##eq##suffix(a, b); }                                        \
    inline bool operator!=(name a, name b) { return prefix##neu##suffix(a, b); }                                       \
    inline bool operator<(name a, name b) { return prefix##lt##suffix(a, b); }                                         \
    inline bool operator<=(name a, name b) { return prefix##le##suffix(a, b); }                                        \
    inline bool operator>(name a, name b) { return prefix##gt##suffix(a, b); }                                         \
    inline bool operator>=(name a, name b) { return prefix##ge##suffix(a, b); }

// --- conversions ---------------------------------------------------------------------------------------------------

// `word` is what the type is called in the names: __float2half, __bfloat162float.
#define GPUNN_HALF_CONVERSIONS(name, pair, word)                                                                       \
    inline float __##word##2float(name x) { return gpunn_emulator::wide(x); }                                          \
    inline name __float2##word(float x) { return gpunn_emulator::nearest<name>(x); }                                   \
    inline name __double2##word(double x) { return gpunn_emulator::nearest<name>(gpunn_emulator::to_odd(x)); }         \
    GPUNN_HALF_FROM(name, word, float, float, x)                                                                       \
    GPUNN_HALF_FROM(name, word, short, short, (float)x)                                                                \
    GPUNN_HALF_FROM(name, word, ushort, unsigned short, (float)x)                                                      \
    GPUNN_HALF_FROM(name, word, int, int, gpunn_emulator::to_odd((double)x))                                           \
    GPUNN_HALF_FROM(name, word, uint, unsigned, gpunn_emulator::to_odd((double)x))                                     \
    GPUNN_HALF_FROM(name, word, ll, long long, gpunn_emulator::to_odd(x))                                              \
    GPUNN_HALF_FROM(name, word, ull, unsigned long long, gpunn_emulator::to_odd(x))                                    \
    GPUNN_HALF_TO(name, word, short, short, to_short)                                                                  \
    GPUNN_HALF_TO(name, word, ushort, unsigned short, to_ushort)                                                       \
    GPUNN_HALF_TO(name, word, int, int, to_int)                                                                        \
    GPUNN_HALF_TO(name, word, uint, unsigned, to_uint)                                                                 \
    GPUNN_HALF_TO(name, word, ll, long long, to_longlong)                                                              \
    GPUNN_HALF_TO(name, word, ull, unsigned long long, to_ulonglong)                                                   \
    inline signed char __##word##2char_rz(name x) { return gpunn_emulator::to_schar(gpunn_emulator::wide(x)); }        \
    inline unsigned char __##word##2uchar_rz(name x) { return gpunn_emulator::to_uchar(gpunn_emulator::wide(x)); }     \
    inline unsigned short __##word##_as_ushort(name x) { return x.__x; }                                               \
    inline short __##word##_as_short(name x) { return (short)x.__x; }                                                  \
    inline name __ushort_as_##word(unsigned short bits) { return gpunn_emulator::bit_cast<name>(bits); }               \
    inline name __short_as_##word(short bits) { return gpunn_emulator::bit_cast<name>(bits); }                         \
    inline pair make_##word##2(name low, name high) { return {low, high}; }                                            \
    inline pair __halves2##word##2(name low, name high) { return {low, high}; }                                        \
    inline pair __##word##2##word##2(name x) { return {x, x}; }                                                        \
    inline pair __float2##word##2_rn(float x) { return __##word##2##word##2(__float2##word(x)); }                      \
    inline pair __floats2##word##2_rn(float x, float y) { return {__float2##word(x), __float2##word(y)}; }             \
    inline pair __float22##word##2_rn(float2 x) { return __floats2##word##2_rn(x.x, x.y); }                            \
    inline float2 __##word##22float2(pair x) { return {gpunn_emulator::wide(x.x), gpunn_emulator::wide(x.y)}; }        \
    inline float __low2float(pair x) { return gpunn_emulator::wide(x.x); }                                             \
    inline float __high2float(pair x) { return gpunn_emulator::wide(x.y); }                                            \
    inline name __low2##word(pair x) { return x.x; }                                                                   \
    inline name __high2##word(pair x) { return x.y; }                                                                  \
    inline pair __low2##word##2(pair x) { return {x.x, x.x}; }                                                         \
    inline pair __high2##word##2(pair x) { return {x.y, x.y}; }                                                        \
    inline pair __lowhigh2highlow(pair x) { return {x.y, x.x}; }                                                       \
    inline pair __lows2##word##2(pair a, pair b) { return {a.x, b.x}; }                                                \
    inline pair __highs2##word##2(pair a, pair b) { return {a.y, b.y}; }

#define GPUNN_HALF_FROM(name, word, from, type, as_float)                                                              \
    inline name __##from##2##word##_rn(type x) { return gpunn_emulator::nearest<name>(as_float); }                     \
    inline name __##from##2##word##_rz(type x) { return gpunn_emulator::toward_zero<name>(as_float); }                 \
    inline name __##from##2##word##_rd(type x) { return gpunn_emulator::downward<name>(as_float); }                    \
    inline name __##from##2##word##_ru(type x) { return gpunn_emulator::upward<name>(as_float); }

#define GPUNN_HALF_TO(name, word, to, type, clamped)                                                                   \
    inline type __##word##2##to##_rn(name x) { return gpunn_emulator::clamped(rintf(gpunn_emulator::wide(x))); }       \
    inline type __##word##2##to##_rz(name x) { return gpunn_emulator::clamped(truncf(gpunn_emulator::wide(x))); }      \
    inline type __##word##2##to##_rd(name x) { return gpunn_emulator::clamped(floorf(gpunn_emulator::wide(x))); }      \
    inline type __##word##2##to##_ru(name x) { return gpunn_emulator::clamped(ceilf(gpunn_emulator::wide(x))); }
