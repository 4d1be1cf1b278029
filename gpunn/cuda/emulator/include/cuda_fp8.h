// Stands for CUDA's header of this name: numbers of 8 bits, of which one, two or four are stored together. All are
// numbers of half precision too.
#pragma once
#include "cuda_bf16.h"

typedef unsigned char __nv_fp8_storage_t;
typedef unsigned short __nv_fp8x2_storage_t;
typedef unsigned int __nv_fp8x4_storage_t;
typedef enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE } __nv_saturation_t;
typedef enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 } __nv_fp8_interpretation_t;

namespace gpunn_emulator {

inline float from_fp8(unsigned char bits, __nv_fp8_interpretation_t kind) {
    if (kind == __NV_E5M2) return half_to_float((unsigned short)(bits << 8));  // the upper half of a half
    if ((bits & 0x7f) == 0x7f) return __builtin_nanf("");
    float value = half_to_float((unsigned short)((bits & 0x7f) << 7)) * 256;  // of exponents that are 8 too small
    return bits & 0x80 ? -value : value;
}

}  // namespace gpunn_emulator

inline __nv_fp8_storage_t __nv_cvt_double_to_fp8(double x, __nv_saturation_t saturate, __nv_fp8_interpretation_t kind) {
    const int digits = kind == __NV_E4M3 ? 3 : 2, lowest = kind == __NV_E4M3 ? -6 : -14;
    const int largest = kind == __NV_E4M3 ? 0x7e : 0x7b, beyond = kind == __NV_E4M3 ? 0x7f : 0x7c;
    if (x != x) return 0x7f;
    double magnitude = fabs(x);
    int bits = beyond;
    if (magnitude < 0x1p17) {
        int exponent = max(magnitude > 0 ? ilogb(magnitude) : lowest, lowest);
        bits = ((exponent - lowest) << digits) + (int)rint(scalbn(magnitude, digits - exponent));
    }
    if (bits > largest) bits = saturate == __NV_SATFINITE ? largest : beyond;
    return (__nv_fp8_storage_t)(bits | (__builtin_signbit(x) ? 0x80 : 0));
}
inline __nv_fp8_storage_t __nv_cvt_float_to_fp8(float x, __nv_saturation_t saturate, __nv_fp8_interpretation_t kind) {
    return __nv_cvt_double_to_fp8(x, saturate, kind);
}
inline __nv_fp8_storage_t __nv_cvt_halfraw_to_fp8(__half_raw x, __nv_saturation_t saturate,
                                                  __nv_fp8_interpretation_t kind) {
    return __nv_cvt_double_to_fp8(__half2float(x), saturate, kind);
}
inline __nv_fp8_storage_t __nv_cvt_bfloat16raw_to_fp8(__nv_bfloat16_raw x, __nv_saturation_t saturate,
                                                      __nv_fp8_interpretation_t kind) {
    return __nv_cvt_double_to_fp8(__bfloat162float(x), saturate, kind);
}
inline __nv_fp8x2_storage_t __nv_cvt_double2_to_fp8x2(double2 x, __nv_saturation_t saturate,
                                                      __nv_fp8_interpretation_t kind) {
    int high = __nv_cvt_double_to_fp8(x.y, saturate, kind) << 8;
    return (__nv_fp8x2_storage_t)(__nv_cvt_double_to_fp8(x.x, saturate, kind) | high);
}
inline __nv_fp8x2_storage_t __nv_cvt_float2_to_fp8x2(float2 x, __nv_saturation_t saturate,
                                                     __nv_fp8_interpretation_t kind) {
    return __nv_cvt_double2_to_fp8x2({x.x, x.y}, saturate, kind);
}
inline __nv_fp8x2_storage_t __nv_cvt_halfraw2_to_fp8x2(__half2_raw x, __nv_saturation_t saturate,
                                                       __nv_fp8_interpretation_t kind) {
    return __nv_cvt_float2_to_fp8x2(__half22float2(x), saturate, kind);
}
inline __nv_fp8x2_storage_t __nv_cvt_bfloat16raw2_to_fp8x2(__nv_bfloat162_raw x, __nv_saturation_t saturate,
                                                           __nv_fp8_interpretation_t kind) {
    return __nv_cvt_float2_to_fp8x2(__bfloat1622float2(x), saturate, kind);
}
inline __half_raw __nv_cvt_fp8_to_halfraw(__nv_fp8_storage_t x, __nv_fp8_interpretation_t kind) {
    return __float2half(gpunn_emulator::from_fp8(x, kind));
}
inline __half2_raw __nv_cvt_fp8x2_to_halfraw2(__nv_fp8x2_storage_t x, __nv_fp8_interpretation_t kind) {
    return {__nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)x, kind).x,
            __nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)(x >> 8), kind).x};
}

// Every conversion is explicit, and a number that is too large becomes the largest.
#define GPUNN_FP8_FROM(name, from, value)                                                                        \
    explicit name(from x) : __x(__nv_cvt_double_to_fp8(value, __NV_SATFINITE, kind)) {}
#define GPUNN_FP8_TO(to, clamped)                                                                                \
    __forceinline__ explicit operator to() const { return gpunn_emulator::clamped(gpunn_emulator::from_fp8(__x, kind)); }
#define GPUNN_FP8(kind_name, interpretation)                                                                     \
    struct __attribute__((aligned(1))) __nv_fp8_##kind_name {                                                    \
        __nv_fp8_storage_t __x;                                                                                  \
        static constexpr __nv_fp8_interpretation_t kind = interpretation;                                        \
        __nv_fp8_##kind_name() = default;                                                                        \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, __half, __half2float(x))                                            \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, __nv_bfloat16, __bfloat162float(x))                                 \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, float, x)                                                           \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, double, x)                                                          \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, short, x)                                                           \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, unsigned short, x)                                                  \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, int, x)                                                             \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, unsigned, x)                                                        \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, long, (double)x)                                                    \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, unsigned long, (double)x)                                           \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, long long, (double)x)                                               \
        GPUNN_FP8_FROM(__nv_fp8_##kind_name, unsigned long long, (double)x)                                      \
        __forceinline__ explicit operator float() const { return gpunn_emulator::from_fp8(__x, kind); }          \
        __forceinline__ explicit operator double() const { return gpunn_emulator::from_fp8(__x, kind); }         \
        __forceinline__ explicit operator __half() const { return __float2half((float)*this); }                  \
        __forceinline__ explicit operator __nv_bfloat16() const { return __float2bfloat16((float)*this); }       \
        __forceinline__ explicit operator bool() const { return (__x & 0x7f) != 0; }                             \
        GPUNN_FP8_TO(char, to_schar)                                                                             \
        GPUNN_FP8_TO(signed char, to_schar)                                                                      \
        GPUNN_FP8_TO(unsigned char, to_uchar)                                                                    \
        GPUNN_FP8_TO(short, to_short)                                                                            \
        GPUNN_FP8_TO(unsigned short, to_ushort)                                                                  \
        GPUNN_FP8_TO(int, to_int)                                                                                \
        GPUNN_FP8_TO(unsigned, to_uint)                                                                          \
        GPUNN_FP8_TO(long, to_longlong)                                                                          \
        GPUNN_FP8_TO(unsigned long, to_ulonglong)                                                                \
        GPUNN_FP8_TO(long long, to_longlong)                                                                     \
        GPUNN_FP8_TO(unsigned long long, to_ulonglong)                                                           \
    };                                                                                                           \
    struct __attribute__((aligned(2))) __nv_fp8x2_##kind_name {                                                  \
        __nv_fp8x2_storage_t __x;                                                                                \
        __nv_fp8x2_##kind_name() = default;                                                                      \
        explicit __nv_fp8x2_##kind_name(double2 x)                                                               \
            : __x(__nv_cvt_double2_to_fp8x2(x, __NV_SATFINITE, interpretation)) {}                               \
        explicit __nv_fp8x2_##kind_name(float2 x) : __nv_fp8x2_##kind_name(double2{x.x, x.y}) {}                 \
        explicit __nv_fp8x2_##kind_name(__half2 x) : __nv_fp8x2_##kind_name(__half22float2(x)) {}                \
        explicit __nv_fp8x2_##kind_name(__nv_bfloat162 x) : __nv_fp8x2_##kind_name(__bfloat1622float2(x)) {}     \
        __forceinline__ explicit operator __half2() const { return __nv_cvt_fp8x2_to_halfraw2(__x, interpretation); } \
        __forceinline__ explicit operator float2() const { return __half22float2((__half2)*this); }              \
    };                                                                                                           \
    struct __attribute__((aligned(4))) __nv_fp8x4_##kind_name {                                                  \
        __nv_fp8x4_storage_t __x;                                                                                \
        __nv_fp8x4_##kind_name() = default;                                                                      \
        __nv_fp8x4_##kind_name(__nv_fp8x2_##kind_name low, __nv_fp8x2_##kind_name high)                          \
            : __x(low.__x | (unsigned)high.__x << 16) {}                                                         \
        explicit __nv_fp8x4_##kind_name(double4 x)                                                               \
            : __nv_fp8x4_##kind_name(__nv_fp8x2_##kind_name(double2{x.x, x.y}),                                  \
                                     __nv_fp8x2_##kind_name(double2{x.z, x.w})) {}                               \
        explicit __nv_fp8x4_##kind_name(float4 x) : __nv_fp8x4_##kind_name(double4{x.x, x.y, x.z, x.w}) {}       \
        explicit __nv_fp8x4_##kind_name(__half2 low, __half2 high)                                               \
            : __nv_fp8x4_##kind_name(__nv_fp8x2_##kind_name(low), __nv_fp8x2_##kind_name(high)) {}               \
        explicit __nv_fp8x4_##kind_name(__nv_bfloat162 low, __nv_bfloat162 high)                                 \
            : __nv_fp8x4_##kind_name(__nv_fp8x2_##kind_name(low), __nv_fp8x2_##kind_name(high)) {}               \
        __forceinline__ explicit operator float4() const {                                                       \
            float2 low = __half22float2(__nv_cvt_fp8x2_to_halfraw2((__nv_fp8x2_storage_t)__x, interpretation));  \
            float2 high =                                                                                        \
                __half22float2(__nv_cvt_fp8x2_to_halfraw2((__nv_fp8x2_storage_t)(__x >> 16), interpretation));   \
            return {low.x, low.y, high.x, high.y};                                                               \
        }                                                                                                        \
    };

GPUNN_FP8(e4m3, __NV_E4M3)
GPUNN_FP8(e5m2, __NV_E5M2)
