// __half and __nv_bfloat16: stored in 16 bits, computed in float and rounded to nearest even after every
// operation. For + - * / that is exact: float has more than twice their digits, so rounding twice cannot
// differ from once.
#pragma once
#include "half_bits.h"

#define GPUNN_PAIR_OPERATOR(pair, operation)                                                               \
    inline pair operator operation(pair a, pair b) { return {a.x operation b.x, a.y operation b.y}; }      \
    __forceinline__ pair& operator operation##=(pair& a, pair b) { return a = a operation b; }
#define GPUNN_HALF_FUNCTION(name, pair, function, of_float)                                                \
    inline name h##function(name a) { return name(of_float((float)a)); }                                   \
    inline pair h2##function(pair a) { return {h##function(a.x), h##function(a.y)}; }

#define GPUNN_HALF_TYPE(name, pair, to_float, from_float)                                                  \
    struct name {                                                                                          \
        unsigned short __x;                                                                                \
        name() = default;                                                                                  \
        name(float x) : __x(gpunn_emulator::from_float(x)) {}                                             \
        name(double x) : name((float)x) {}                                                                 \
        name(int x) : name((float)x) {}                                                                    \
        name(unsigned x) : name((float)x) {}                                                               \
        name(long long x) : name((float)x) {}                                                              \
        name(unsigned long long x) : name((float)x) {}                                                     \
        __forceinline__ operator float() const { return gpunn_emulator::to_float(__x); }                   \
        __forceinline__ name& operator+=(name o) { return *this = name((float)*this + (float)o); }         \
        __forceinline__ name& operator-=(name o) { return *this = name((float)*this - (float)o); }         \
        __forceinline__ name& operator*=(name o) { return *this = name((float)*this * (float)o); }         \
        __forceinline__ name& operator/=(name o) { return *this = name((float)*this / (float)o); }         \
        __forceinline__ name& operator++() { return *this += name(1); }                                    \
        __forceinline__ name& operator--() { return *this -= name(1); }                                    \
        __forceinline__ name operator++(int) { name old = *this; return ++*this, old; }                    \
        __forceinline__ name operator--(int) { name old = *this; return --*this, old; }                    \
    };                                                                                                     \
    struct __attribute__((aligned(4))) pair {                                                              \
        name x, y;                                                                                         \
        pair() = default;                                                                                  \
        pair(name x, name y) : x(x), y(y) {}                                                               \
    };                                                                                                     \
    inline name operator+(name a, name b) { return name((float)a + (float)b); }                            \
    inline name operator-(name a, name b) { return name((float)a - (float)b); }                            \
    inline name operator*(name a, name b) { return name((float)a * (float)b); }                            \
    inline name operator/(name a, name b) { return name((float)a / (float)b); }                            \
    inline name operator-(name a) { return name(-(float)a); }                                              \
    inline bool operator==(name a, name b) { return (float)a == (float)b; }                                \
    inline bool operator!=(name a, name b) { return (float)a != (float)b; }                                \
    inline bool operator<(name a, name b) { return (float)a < (float)b; }                                  \
    inline bool operator<=(name a, name b) { return (float)a <= (float)b; }                                \
    inline bool operator>(name a, name b) { return (float)a > (float)b; }                                  \
    inline bool operator>=(name a, name b) { return (float)a >= (float)b; }                                \
    inline name __hadd(name a, name b) { return a + b; }                                                   \
    inline name __hsub(name a, name b) { return a - b; }                                                   \
    inline name __hmul(name a, name b) { return a * b; }                                                   \
    inline name __hdiv(name a, name b) { return a / b; }                                                   \
    inline name __hneg(name a) { return -a; }                                                              \
    inline name __habs(name a) { return name(fabsf(a)); }                                                  \
    inline name __hmax(name a, name b) { return name(fmaxf(a, b)); }                                       \
    inline name __hmin(name a, name b) { return name(fminf(a, b)); }                                       \
    /* The product is exact, the sum has double's 53 bits: far more than what the last rounding keeps. */  \
    inline name __hfma(name a, name b, name c) {                                                           \
        return name((double)(float)a * (double)(float)b + (float)c);                                       \
    }                                                                                                      \
    inline bool __heq(name a, name b) { return a == b; }                                                   \
    inline bool __hne(name a, name b) { return a != b; }                                                   \
    inline bool __hlt(name a, name b) { return a < b; }                                                    \
    inline bool __hle(name a, name b) { return a <= b; }                                                   \
    inline bool __hgt(name a, name b) { return a > b; }                                                    \
    inline bool __hge(name a, name b) { return a >= b; }                                                   \
    inline bool __hisnan(name a) { return isnan((float)a); }                                               \
    inline int __hisinf(name a) { return isinf((float)a); }                                                \
    inline pair __hadd2(pair a, pair b) { return {a.x + b.x, a.y + b.y}; }                                 \
    inline pair __hsub2(pair a, pair b) { return {a.x - b.x, a.y - b.y}; }                                 \
    inline pair __hmul2(pair a, pair b) { return {a.x * b.x, a.y * b.y}; }                                 \
    inline pair __hmax2(pair a, pair b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }                   \
    inline pair __hmin2(pair a, pair b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }                   \
    inline pair __hfma2(pair a, pair b, pair c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
    inline float __low2float(pair a) { return a.x; }                                                       \
    inline float __high2float(pair a) { return a.y; }                                                      \
    GPUNN_PAIR_OPERATOR(pair, +)                                                                           \
    GPUNN_PAIR_OPERATOR(pair, -)                                                                           \
    GPUNN_PAIR_OPERATOR(pair, *)                                                                           \
    GPUNN_PAIR_OPERATOR(pair, /)                                                                           \
    inline pair operator-(pair a) { return {-a.x, -a.y}; }                                                 \
    inline bool operator==(pair a, pair b) { return a.x == b.x && a.y == b.y; }                            \
    inline bool operator!=(pair a, pair b) { return a.x != b.x && a.y != b.y; }                            \
    inline bool __hbeq2(pair a, pair b) { return a == b; }                                                 \
    inline pair __h2div(pair a, pair b) { return a / b; }                                                  \
    inline pair __hneg2(pair a) { return -a; }                                                             \
    inline pair __habs2(pair a) { return {__habs(a.x), __habs(a.y)}; }                                     \
    GPUNN_HALF_FUNCTION(name, pair, exp, expf)                                                             \
    GPUNN_HALF_FUNCTION(name, pair, exp2, exp2f)                                                           \
    GPUNN_HALF_FUNCTION(name, pair, exp10, exp10f)                                                         \
    GPUNN_HALF_FUNCTION(name, pair, log, logf)                                                             \
    GPUNN_HALF_FUNCTION(name, pair, log2, log2f)                                                           \
    GPUNN_HALF_FUNCTION(name, pair, log10, log10f)                                                         \
    GPUNN_HALF_FUNCTION(name, pair, sqrt, sqrtf)                                                           \
    GPUNN_HALF_FUNCTION(name, pair, rsqrt, rsqrtf)                                                         \
    GPUNN_HALF_FUNCTION(name, pair, rcp, 1 / )                                                             \
    GPUNN_HALF_FUNCTION(name, pair, sin, sinf)                                                             \
    GPUNN_HALF_FUNCTION(name, pair, cos, cosf)                                                             \
    GPUNN_HALF_FUNCTION(name, pair, tanh, tanhf)                                                           \
    GPUNN_HALF_FUNCTION(name, pair, floor, floorf)                                                         \
    GPUNN_HALF_FUNCTION(name, pair, ceil, ceilf)                                                           \
    GPUNN_HALF_FUNCTION(name, pair, trunc, truncf)                                                         \
    GPUNN_HALF_FUNCTION(name, pair, rint, rintf)

// `word` is what the type is called in the names: __float2half, __bfloat162float.
#define GPUNN_HALF_CONVERSIONS(name, pair, word)                                                           \
    inline float __##word##2float(name x) { return x; }                                                    \
    inline name __float2##word(float x) { return name(x); }                                                \
    inline name __float2##word##_rn(float x) { return name(x); }                                           \
    inline name __double2##word(double x) { return name(x); }                                              \
    inline name __int2##word##_rn(int x) { return name(x); }                                               \
    inline unsigned short __##word##_as_ushort(name x) { return x.__x; }                                   \
    inline name __ushort_as_##word(unsigned short bits) { return gpunn_emulator::bit_cast<name>(bits); }   \
    inline pair __halves2##word##2(name low, name high) { return {low, high}; }                            \
    inline pair __##word##2##word##2(name x) { return {x, x}; }                                            \
    inline pair __float2##word##2_rn(float x) { return {name(x), name(x)}; }                               \
    inline pair __floats2##word##2_rn(float low, float high) { return {name(low), name(high)}; }           \
    inline pair __float22##word##2_rn(float2 x) { return {name(x.x), name(x.y)}; }                         \
    inline float2 __##word##22float2(pair x) { return {x.x, x.y}; }                                        \
    inline name __low2##word(pair x) { return x.x; }                                                       \
    inline name __high2##word(pair x) { return x.y; }                                                      \
    inline pair __low2##word##2(pair x) { return {x.x, x.x}; }                                             \
    inline pair __high2##word##2(pair x) { return {x.y, x.y}; }
