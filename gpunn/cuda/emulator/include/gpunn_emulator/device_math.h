// The mathematical functions of CUDA C++. The host's C library computes them: results agree with a GPU's to a few
// units in the last place, not to the bit.
#pragma once

#define GPUNN_MATH_1(name)                                                                                       \
    extern "C" double name(double) noexcept;                                                                     \
    extern "C" float name##f(float) noexcept;                                                                    \
    inline float name(float x) { return name##f(x); }
#define GPUNN_MATH_2(name)                                                                                       \
    extern "C" double name(double, double) noexcept;                                                             \
    extern "C" float name##f(float, float) noexcept;                                                             \
    inline float name(float x, float y) { return name##f(x, y); }

GPUNN_MATH_1(acos) GPUNN_MATH_1(acosh) GPUNN_MATH_1(asin) GPUNN_MATH_1(asinh) GPUNN_MATH_1(atan) GPUNN_MATH_1(atanh)
GPUNN_MATH_1(cbrt) GPUNN_MATH_1(ceil) GPUNN_MATH_1(cos) GPUNN_MATH_1(cosh) GPUNN_MATH_1(erf) GPUNN_MATH_1(erfc)
GPUNN_MATH_1(exp) GPUNN_MATH_1(exp2) GPUNN_MATH_1(expm1) GPUNN_MATH_1(fabs) GPUNN_MATH_1(floor) GPUNN_MATH_1(lgamma)
GPUNN_MATH_1(log) GPUNN_MATH_1(log10) GPUNN_MATH_1(log1p) GPUNN_MATH_1(log2) GPUNN_MATH_1(logb)
GPUNN_MATH_1(nearbyint) GPUNN_MATH_1(rint) GPUNN_MATH_1(round) GPUNN_MATH_1(sin) GPUNN_MATH_1(sinh)
GPUNN_MATH_1(sqrt) GPUNN_MATH_1(tan) GPUNN_MATH_1(tanh) GPUNN_MATH_1(tgamma) GPUNN_MATH_1(trunc)
GPUNN_MATH_2(atan2) GPUNN_MATH_2(copysign) GPUNN_MATH_2(fdim) GPUNN_MATH_2(fmod) GPUNN_MATH_2(hypot)
GPUNN_MATH_2(nextafter) GPUNN_MATH_2(pow) GPUNN_MATH_2(remainder)

extern "C" double fma(double, double, double) noexcept;
extern "C" float fmaf(float, float, float) noexcept;
extern "C" double ldexp(double, int) noexcept;
extern "C" float ldexpf(float, int) noexcept;
extern "C" double frexp(double, int*) noexcept;
extern "C" float frexpf(float, int*) noexcept;
extern "C" double scalbn(double, int) noexcept;
extern "C" float scalbnf(float, int) noexcept;
extern "C" double modf(double, double*) noexcept;
extern "C" float modff(float, float*) noexcept;
extern "C" int ilogb(double) noexcept;
extern "C" int ilogbf(float) noexcept;
extern "C" long lrint(double) noexcept;
extern "C" long lrintf(float) noexcept;
extern "C" long lround(double) noexcept;
extern "C" long lroundf(float) noexcept;
extern "C" long long llrint(double) noexcept;
extern "C" long long llrintf(float) noexcept;
extern "C" long long llround(double) noexcept;
extern "C" long long llroundf(float) noexcept;
extern "C" int abs(int) noexcept;
extern "C" long labs(long) noexcept;
extern "C" long long llabs(long long) noexcept;

inline float fma(float x, float y, float z) { return fmaf(x, y, z); }
inline float ldexp(float x, int exponent) { return ldexpf(x, exponent); }
__forceinline__ float frexp(float x, int* exponent) { return frexpf(x, exponent); }
inline float abs(float x) { return fabsf(x); }
inline double abs(double x) { return fabs(x); }
inline long abs(long x) { return labs(x); }
inline long long abs(long long x) { return llabs(x); }
inline double pow(double x, int y) { return pow(x, (double)y); }
inline float pow(float x, int y) { return powf(x, (float)y); }

inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isnan(double x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(double x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbit(x); }
inline bool signbit(double x) { return __builtin_signbit(x); }

// A NaN loses against a number, as on the GPU. Written out because a call into the C library, which compilers make of
// fmaxf unless they may ignore NaN, is far dearer than the comparison.
inline float fmaxf(float a, float b) { return a > b || b != b ? a : b; }
inline float fminf(float a, float b) { return a < b || b != b ? a : b; }
inline double fmax(double a, double b) { return a > b || b != b ? a : b; }
inline double fmin(double a, double b) { return a < b || b != b ? a : b; }
inline float fmax(float a, float b) { return fmaxf(a, b); }
inline float fmin(float a, float b) { return fminf(a, b); }

#define GPUNN_MIN_MAX(result, type_a, type_b)                                                                    \
    inline result min(type_a a, type_b b) { return (result)a < (result)b ? (result)a : (result)b; }              \
    inline result max(type_a a, type_b b) { return (result)a > (result)b ? (result)a : (result)b; }
#define GPUNN_MIN_MAX_INTEGERS(signed_type, unsigned_type)                                                       \
    GPUNN_MIN_MAX(signed_type, signed_type, signed_type)                                                         \
    GPUNN_MIN_MAX(unsigned_type, unsigned_type, unsigned_type)                                                   \
    GPUNN_MIN_MAX(unsigned_type, signed_type, unsigned_type)                                                     \
    GPUNN_MIN_MAX(unsigned_type, unsigned_type, signed_type)
#define GPUNN_MIN_MAX_FLOATS(result, type_a, type_b)                                                             \
    inline result min(type_a a, type_b b) { return fmin((result)a, (result)b); }                                 \
    inline result max(type_a a, type_b b) { return fmax((result)a, (result)b); }

GPUNN_MIN_MAX_INTEGERS(int, unsigned int)
GPUNN_MIN_MAX_INTEGERS(long, unsigned long)
GPUNN_MIN_MAX_INTEGERS(long long, unsigned long long)
GPUNN_MIN_MAX_FLOATS(float, float, float)
GPUNN_MIN_MAX_FLOATS(double, double, double)
GPUNN_MIN_MAX_FLOATS(double, float, double)
GPUNN_MIN_MAX_FLOATS(double, double, float)

inline unsigned umin(unsigned a, unsigned b) { return min(a, b); }
inline unsigned umax(unsigned a, unsigned b) { return max(a, b); }
inline long long llmin(long long a, long long b) { return min(a, b); }
inline long long llmax(long long a, long long b) { return max(a, b); }
inline unsigned long long ullmin(unsigned long long a, unsigned long long b) { return min(a, b); }
inline unsigned long long ullmax(unsigned long long a, unsigned long long b) { return max(a, b); }

inline float nanf(const char*) { return __builtin_nanf(""); }
inline double nan(const char*) { return __builtin_nan(""); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float fdividef(float a, float b) { return a / b; }

__forceinline__ void sincosf(float x, float* sine, float* cosine) { *sine = sinf(x); *cosine = cosf(x); }
__forceinline__ void sincos(double x, double* sine, double* cosine) { *sine = sin(x); *cosine = cos(x); }
__forceinline__ void sincos(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }

#include "special_math.h"

// The fast approximations of the GPU, here at full accuracy.
inline float __expf(float x) { return expf(x); }
inline float __exp10f(float x) { return exp10f(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __log10f(float x) { return log10f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __tanf(float x) { return tanf(x); }
inline float __tanhf(float x) { return tanhf(x); }
__forceinline__ void __sincosf(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

namespace gpunn_emulator {

// A value the compiler must treat as final: it may fuse a * b + c, but not where CUDA promises two roundings.
template <class T> inline T rounded(T value) {
    asm("" : "+m"(value));
    return value;
}

}  // namespace gpunn_emulator

#define GPUNN_ROUNDED_ARITHMETIC(prefix, type, root)                                                             \
    inline type prefix##add_rn(type a, type b) { return gpunn_emulator::rounded(a + b); }                        \
    inline type prefix##sub_rn(type a, type b) { return gpunn_emulator::rounded(a - b); }                        \
    inline type prefix##mul_rn(type a, type b) { return gpunn_emulator::rounded(a * b); }                        \
    inline type prefix##div_rn(type a, type b) { return a / b; }                                                 \
    inline type prefix##rcp_rn(type a) { return 1 / a; }                                                         \
    inline type prefix##sqrt_rn(type a) { return root(a); }

GPUNN_ROUNDED_ARITHMETIC(__f, float, sqrtf)
GPUNN_ROUNDED_ARITHMETIC(__d, double, sqrt)
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float __frsqrt_rn(float a) { return (float)(1.0 / sqrt((double)a)); }

namespace gpunn_emulator {

// The GPU clamps a float that no integer can hold; in C++ that conversion is undefined. Of a NaN it makes 0, or, where
// one of the two has 64 bits, a number of which only the top bit is set.
template <class Integer, class Float> inline Integer to_integer(Float x, Integer lowest, Integer highest) {
    if (x != x) return sizeof(Float) == 8 || sizeof(Integer) == 8 ? (Integer)(1ull << (8 * sizeof(Integer) - 1)) : 0;
    if (x <= (Float)lowest) return lowest;
    return x >= (Float)highest ? highest : (Integer)x;
}
template <class Float> inline int to_int(Float x) { return to_integer<int>(x, -0x7fffffff - 1, 0x7fffffff); }
template <class Float> inline unsigned to_uint(Float x) { return to_integer<unsigned>(x, 0u, 0xffffffffu); }
template <class Float> inline long long to_longlong(Float x) {
    return to_integer<long long>(x, -0x7fffffffffffffffll - 1, 0x7fffffffffffffffll);
}
template <class Float> inline unsigned long long to_ulonglong(Float x) {
    return to_integer<unsigned long long>(x, 0ull, 0xffffffffffffffffull);
}

}  // namespace gpunn_emulator

#define GPUNN_TO_INTEGER(source, type, rint, floor, ceil, trunc)                                                 \
    inline int source##2int_rn(type x) { return gpunn_emulator::to_int(rint(x)); }                               \
    inline int source##2int_rd(type x) { return gpunn_emulator::to_int(floor(x)); }                              \
    inline int source##2int_ru(type x) { return gpunn_emulator::to_int(ceil(x)); }                               \
    inline int source##2int_rz(type x) { return gpunn_emulator::to_int(trunc(x)); }                              \
    inline unsigned source##2uint_rn(type x) { return gpunn_emulator::to_uint(rint(x)); }                        \
    inline unsigned source##2uint_rd(type x) { return gpunn_emulator::to_uint(floor(x)); }                       \
    inline unsigned source##2uint_ru(type x) { return gpunn_emulator::to_uint(ceil(x)); }                        \
    inline unsigned source##2uint_rz(type x) { return gpunn_emulator::to_uint(trunc(x)); }                       \
    inline long long source##2ll_rn(type x) { return gpunn_emulator::to_longlong(rint(x)); }                     \
    inline long long source##2ll_rd(type x) { return gpunn_emulator::to_longlong(floor(x)); }                    \
    inline long long source##2ll_ru(type x) { return gpunn_emulator::to_longlong(ceil(x)); }                     \
    inline long long source##2ll_rz(type x) { return gpunn_emulator::to_longlong(trunc(x)); }                    \
    inline unsigned long long source##2ull_rn(type x) { return gpunn_emulator::to_ulonglong(rint(x)); }          \
    inline unsigned long long source##2ull_rd(type x) { return gpunn_emulator::to_ulonglong(floor(x)); }         \
    inline unsigned long long source##2ull_ru(type x) { return gpunn_emulator::to_ulonglong(ceil(x)); }          \
    inline unsigned long long source##2ull_rz(type x) { return gpunn_emulator::to_ulonglong(trunc(x)); }

GPUNN_TO_INTEGER(__float, float, rintf, floorf, ceilf, truncf)
GPUNN_TO_INTEGER(__double, double, rint, floor, ceil, trunc)
inline float __int2float_rn(int x) { return (float)x; }
inline float __uint2float_rn(unsigned x) { return (float)x; }
inline float __ll2float_rn(long long x) { return (float)x; }
inline float __ull2float_rn(unsigned long long x) { return (float)x; }
inline double __int2double_rn(int x) { return (double)x; }
inline double __uint2double_rn(unsigned x) { return (double)x; }
inline double __ll2double_rn(long long x) { return (double)x; }
inline double __ull2double_rn(unsigned long long x) { return (double)x; }
inline float __double2float_rn(double x) { return (float)x; }
