// Floats of 8, 6 and 4 bits, of which one, two or four are stored together. All of those with digits are numbers of
// half precision too.
#pragma once
#include "../cuda_bf16.h"

namespace gpunn_emulator {

// What the bits of a float mean.
struct narrow_format {
    int digits;   // behind the point
    int lowest;   // exponent of normal numbers
    int largest;  // bits of the largest number
    int sign;     // the bit that is set where it is negative
};

inline float from_narrow(int bits, narrow_format format) {
    // Placed as the upper bits of a half, it has an exponent that is too small.
    float magnitude = half_to_float((unsigned short)((bits & (format.sign - 1)) << (10 - format.digits)));
    magnitude *= (float)(1 << (format.lowest + 14));
    return bits & format.sign ? -magnitude : magnitude;
}

// The bits of |x|, which is a number; more than the largest where that is passed.
inline int to_narrow(double x, narrow_format format, cudaRoundMode rounding) {
    x = fabs(x);
    if (x > 131072) return 0x100;
    int exponent = x > 0 ? ilogb(x) : format.lowest;
    if (exponent < format.lowest) exponent = format.lowest;
    double steps = scalbn(x, format.digits - exponent);
    return ((exponent - format.lowest) << format.digits) + (int)(rounding == cudaRoundZero ? steps : rint(steps));
}

// Of formats without infinity and NaN.
inline int to_finite(double x, narrow_format format, cudaRoundMode rounding) {
    assert(rounding == cudaRoundNearest || rounding == cudaRoundZero);
    if (x != x) return format.largest;
    int bits = to_narrow(x, format, rounding);
    return (bits < format.largest ? bits : format.largest) | (__builtin_signbit(x) ? format.sign : 0);
}

// One number, and two or four. `Kind` says how they are stored, `bits` of a word each, and what they mean.
template <class Kind> struct narrow_float {
    typename Kind::storage __x;
    narrow_float() = default;
    explicit narrow_float(double x) : __x(Kind::from_double(x)) {}
    explicit narrow_float(float x) : narrow_float((double)x) {}
    explicit narrow_float(__half x) : narrow_float(__half2float(x)) {}
    explicit narrow_float(__nv_bfloat16 x) : narrow_float(__bfloat162float(x)) {}
    explicit narrow_float(short x) : narrow_float((double)x) {}
    explicit narrow_float(unsigned short x) : narrow_float((double)x) {}
    explicit narrow_float(int x) : narrow_float((double)x) {}
    explicit narrow_float(unsigned x) : narrow_float((double)x) {}
    explicit narrow_float(long x) : narrow_float((long long)x) {}
    explicit narrow_float(unsigned long x) : narrow_float((unsigned long long)x) {}
    explicit narrow_float(long long x) : narrow_float(to_odd(x)) {}
    explicit narrow_float(unsigned long long x) : narrow_float(to_odd(x)) {}
    __forceinline__ explicit operator float() const { return Kind::to_float(__x); }
    __forceinline__ explicit operator double() const { return Kind::to_float(__x); }
    __forceinline__ explicit operator __half() const { return __float2half(Kind::to_float(__x)); }
    __forceinline__ explicit operator __nv_bfloat16() const { return __float2bfloat16(Kind::to_float(__x)); }
    __forceinline__ explicit operator bool() const { return Kind::to_float(__x) != 0; }
    __forceinline__ explicit operator char() const { return to_schar(Kind::to_float(__x)); }
    __forceinline__ explicit operator signed char() const { return to_schar(Kind::to_float(__x)); }
    __forceinline__ explicit operator unsigned char() const { return to_uchar(Kind::to_float(__x)); }
    __forceinline__ explicit operator short() const { return to_short(Kind::to_float(__x)); }
    __forceinline__ explicit operator unsigned short() const { return to_ushort(Kind::to_float(__x)); }
    __forceinline__ explicit operator int() const { return to_int(Kind::to_float(__x)); }
    __forceinline__ explicit operator unsigned() const { return to_uint(Kind::to_float(__x)); }
    __forceinline__ explicit operator long() const { return to_longlong(Kind::to_float(__x)); }
    __forceinline__ explicit operator unsigned long() const { return to_ulonglong(Kind::to_float(__x)); }
    __forceinline__ explicit operator long long() const { return to_longlong(Kind::to_float(__x)); }
    __forceinline__ explicit operator unsigned long long() const { return to_ulonglong(Kind::to_float(__x)); }
};

template <class Kind> struct narrow_pair {
    typename Kind::pair_storage __x;
    narrow_pair() = default;
    explicit narrow_pair(double2 x)
        : __x((typename Kind::pair_storage)(Kind::from_double(x.x) | Kind::from_double(x.y) << Kind::bits)) {}
    explicit narrow_pair(float2 x) : narrow_pair(double2{x.x, x.y}) {}
    explicit narrow_pair(__half2 x) : narrow_pair(__half22float2(x)) {}
    explicit narrow_pair(__nv_bfloat162 x) : narrow_pair(__bfloat1622float2(x)) {}
    __forceinline__ explicit operator float2() const {
        return {Kind::to_float(__x), Kind::to_float(__x >> Kind::bits)};
    }
    __forceinline__ explicit operator __half2() const { return __float22half2_rn((float2)*this); }
};

template <class Kind> struct narrow_quad {
    typename Kind::quad_storage __x;
    narrow_quad() = default;
    explicit narrow_quad(double4 x) : narrow_quad(narrow_pair<Kind>(double2{x.x, x.y}),
                                              narrow_pair<Kind>(double2{x.z, x.w})) {}
    explicit narrow_quad(float4 x) : narrow_quad(double4{x.x, x.y, x.z, x.w}) {}
    explicit narrow_quad(__half2 low, __half2 high) : narrow_quad(narrow_pair<Kind>(low), narrow_pair<Kind>(high)) {}
    explicit narrow_quad(__nv_bfloat162 low, __nv_bfloat162 high)
        : narrow_quad(narrow_pair<Kind>(low), narrow_pair<Kind>(high)) {}
    __forceinline__ explicit operator float4() const {
        return {Kind::to_float(__x), Kind::to_float(__x >> Kind::bits), Kind::to_float(__x >> 2 * Kind::bits),
                Kind::to_float(__x >> 3 * Kind::bits)};
    }

  private:
    narrow_quad(narrow_pair<Kind> low, narrow_pair<Kind> high)
        : __x((typename Kind::quad_storage)(low.__x | (unsigned)high.__x << 2 * Kind::bits)) {}
};

}  // namespace gpunn_emulator

#define GPUNN_NARROW_TYPE(name, base, kind)                                                                            \
    struct name : gpunn_emulator::base<kind> {                                                                         \
        name() = default;                                                                                              \
        using base::base;                                                                                              \
    };
#define GPUNN_NARROW_TYPES(number, pair, quad, kind)                                                                   \
    GPUNN_NARROW_TYPE(number, narrow_float, kind)                                                                      \
    GPUNN_NARROW_TYPE(pair, narrow_pair, kind)                                                                         \
    GPUNN_NARROW_TYPE(quad, narrow_quad, kind)

// The functions of formats without infinity and NaN, of which pairs are `bits` apart.
#define GPUNN_NARROW_FUNCTIONS(fp, bits)                                                                               \
    inline __nv_##fp##_storage_t __nv_cvt_double_to_##fp(double x, __nv_##fp##_interpretation_t kind,                  \
                                                         cudaRoundMode rounding) {                                     \
        return (__nv_##fp##_storage_t)gpunn_emulator::to_finite(x, gpunn_emulator::format_of(kind), rounding);         \
    }                                                                                                                  \
    inline __nv_##fp##x2_storage_t __nv_cvt_double2_to_##fp##x2(double2 x, __nv_##fp##_interpretation_t kind,          \
                                                                cudaRoundMode rounding) {                              \
        int high = __nv_cvt_double_to_##fp(x.y, kind, rounding) << bits;                                               \
        return (__nv_##fp##x2_storage_t)(__nv_cvt_double_to_##fp(x.x, kind, rounding) | high);                         \
    }                                                                                                                  \
    GPUNN_NARROW_FROM(fp, float, float, x)                                                                             \
    GPUNN_NARROW_FROM(fp, halfraw, __half_raw, __half2float(x))                                                        \
    GPUNN_NARROW_FROM(fp, bfloat16raw, __nv_bfloat16_raw, __bfloat162float(x))                                         \
    GPUNN_NARROW_FROM_PAIR(fp, float2, float2, x)                                                                      \
    GPUNN_NARROW_FROM_PAIR(fp, halfraw2, __half2_raw, __half22float2(x))                                               \
    GPUNN_NARROW_FROM_PAIR(fp, bfloat16raw2, __nv_bfloat162_raw, __bfloat1622float2(x))                                \
    inline __half_raw __nv_cvt_##fp##_to_halfraw(__nv_##fp##_storage_t x, __nv_##fp##_interpretation_t kind) {         \
        return __float2half(gpunn_emulator::from_narrow(x, gpunn_emulator::format_of(kind)));                          \
    }                                                                                                                  \
    inline __half2_raw __nv_cvt_##fp##x2_to_halfraw2(__nv_##fp##x2_storage_t x, __nv_##fp##_interpretation_t kind) {   \
        return {__nv_cvt_##fp##_to_halfraw((__nv_##fp##_storage_t)x, kind).x,                                          \
                __nv_cvt_##fp##_to_halfraw((__nv_##fp##_storage_t)(x >> bits), kind).x};                               \
    }

#define GPUNN_NARROW_FROM(fp, name, type, number)                                                                      \
    inline __nv_##fp##_storage_t __nv_cvt_##name##_to_##fp(type x, __nv_##fp##_interpretation_t kind,                  \
                                                           cudaRoundMode rounding) {                                   \
        return __nv_cvt_double_to_##fp(number, kind, rounding);                                                        \
    }
#define GPUNN_NARROW_FROM_PAIR(fp, name, type, pair)                                                                   \
    inline __nv_##fp##x2_storage_t __nv_cvt_##name##_to_##fp##x2(type x, __nv_##fp##_interpretation_t kind,            \
                                                                 cudaRoundMode rounding) {                             \
        float2 numbers = pair;                                                                                         \
        return __nv_cvt_double2_to_##fp##x2({numbers.x, numbers.y}, kind, rounding);                                   \
    }
