// Stands for CUDA's header of this name.
#pragma once
#include "gpunn_emulator/narrow_floats.h"

typedef unsigned char __nv_fp8_storage_t;
typedef unsigned short __nv_fp8x2_storage_t;
typedef unsigned int __nv_fp8x4_storage_t;
typedef enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE } __nv_saturation_t;
typedef enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 } __nv_fp8_interpretation_t;
#define __CUDA_FP8_TYPES_EXIST__

namespace gpunn_emulator {

inline narrow_format format_of(__nv_fp8_interpretation_t kind) {
    return kind == __NV_E4M3 ? narrow_format{3, -6, 0x7e, 0x80} : narrow_format{2, -14, 0x7b, 0x80};
}
inline float from_fp8(int bits, __nv_fp8_interpretation_t kind) {
    return kind == __NV_E4M3 && (bits & 0x7f) == 0x7f ? __builtin_nanf("") : from_narrow(bits, format_of(kind));
}

}  // namespace gpunn_emulator

inline __nv_fp8_storage_t __nv_cvt_double_to_fp8(double x, __nv_saturation_t saturate, __nv_fp8_interpretation_t kind) {
    const gpunn_emulator::narrow_format format = gpunn_emulator::format_of(kind);
    if (x != x) return 0x7f;
    int bits = gpunn_emulator::to_narrow(x, format, cudaRoundNearest);
    if (bits > format.largest) bits = saturate == __NV_SATFINITE ? format.largest : format.largest + 1;
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

// --- powers of two, by which others are scaled: 8 bits of an exponent, and no sign ------------------------------------

inline __nv_fp8_storage_t __nv_cvt_float_to_e8m0(float x, __nv_saturation_t saturate, cudaRoundMode rounding) {
    assert(rounding == cudaRoundZero || rounding == cudaRoundPosInf);
    unsigned bits = gpunn_emulator::bit_cast<unsigned>(x) & 0x7fffffff;
    if (x != x) return 0xff;
    if (bits <= 0x400000) return 0;  // 2^-127
    unsigned exponent = bits >> 23;
    if (rounding == cudaRoundPosInf && (bits & 0x7fffff) != 0) exponent++;
    return (__nv_fp8_storage_t)(exponent == 0xff && saturate == __NV_SATFINITE ? 0xfe : exponent);
}
// CUDA's makes a float of the double first, so that one beyond all floats is no infinity where it is rounded down.
inline __nv_fp8_storage_t __nv_cvt_double_to_e8m0(double x, __nv_saturation_t saturate, cudaRoundMode rounding) {
    return __nv_cvt_float_to_e8m0(gpunn_emulator::to_odd(x), saturate, rounding);
}
inline __nv_fp8_storage_t __nv_cvt_bfloat16raw_to_e8m0(__nv_bfloat16_raw x, __nv_saturation_t saturate,
                                                       cudaRoundMode rounding) {
    return __nv_cvt_float_to_e8m0(__bfloat162float(x), saturate, rounding);
}
inline __nv_fp8x2_storage_t __nv_cvt_double2_to_e8m0x2(double2 x, __nv_saturation_t saturate, cudaRoundMode rounding) {
    int high = __nv_cvt_double_to_e8m0(x.y, saturate, rounding) << 8;
    return (__nv_fp8x2_storage_t)(__nv_cvt_double_to_e8m0(x.x, saturate, rounding) | high);
}
inline __nv_fp8x2_storage_t __nv_cvt_float2_to_e8m0x2(float2 x, __nv_saturation_t saturate, cudaRoundMode rounding) {
    return __nv_cvt_double2_to_e8m0x2({x.x, x.y}, saturate, rounding);
}
inline __nv_fp8x2_storage_t __nv_cvt_bfloat162raw_to_e8m0x2(__nv_bfloat162_raw x, __nv_saturation_t saturate,
                                                            cudaRoundMode rounding) {
    return __nv_cvt_float2_to_e8m0x2(__bfloat1622float2(x), saturate, rounding);
}
inline __nv_bfloat16_raw __nv_cvt_e8m0_to_bf16raw(__nv_fp8_storage_t x) {
    return {(unsigned short)(x == 0xff ? 0x7fff : x == 0 ? 0x40 : x << 7)};
}
inline __nv_bfloat162_raw __nv_cvt_e8m0x2_to_bf162raw(__nv_fp8x2_storage_t x) {
    return {__nv_cvt_e8m0_to_bf16raw((__nv_fp8_storage_t)x).x, __nv_cvt_e8m0_to_bf16raw((__nv_fp8_storage_t)(x >> 8)).x};
}

// --- the types --------------------------------------------------------------------------------------------------------

namespace gpunn_emulator {

struct stored_in_bytes {
    typedef __nv_fp8_storage_t storage;
    typedef __nv_fp8x2_storage_t pair_storage;
    typedef __nv_fp8x4_storage_t quad_storage;
    static const int bits = 8;
};
template <__nv_fp8_interpretation_t kind> struct fp8 : stored_in_bytes {
    static storage from_double(double x) { return __nv_cvt_double_to_fp8(x, __NV_SATFINITE, kind); }
    static float to_float(unsigned x) { return from_fp8((int)x, kind); }
};
struct e8m0 : stored_in_bytes {
    static storage from_double(double x) { return __nv_cvt_double_to_e8m0(x, __NV_SATFINITE, cudaRoundPosInf); }
    static float to_float(unsigned x) { return __bfloat162float(__nv_cvt_e8m0_to_bf16raw((storage)x)); }
};

}  // namespace gpunn_emulator

GPUNN_NARROW_TYPES(__nv_fp8_e4m3, __nv_fp8x2_e4m3, __nv_fp8x4_e4m3, gpunn_emulator::fp8<__NV_E4M3>)
GPUNN_NARROW_TYPES(__nv_fp8_e5m2, __nv_fp8x2_e5m2, __nv_fp8x4_e5m2, gpunn_emulator::fp8<__NV_E5M2>)
GPUNN_NARROW_TYPE(__nv_fp8_e8m0, narrow_float, gpunn_emulator::e8m0)
struct __nv_fp8x2_e8m0 : gpunn_emulator::narrow_pair<gpunn_emulator::e8m0> {
    __nv_fp8x2_e8m0() = default;
    using narrow_pair::narrow_pair;
    __forceinline__ explicit operator __nv_bfloat162() const { return __nv_cvt_e8m0x2_to_bf162raw(__x); }
};
GPUNN_NARROW_TYPE(__nv_fp8x4_e8m0, narrow_quad, gpunn_emulator::e8m0)
