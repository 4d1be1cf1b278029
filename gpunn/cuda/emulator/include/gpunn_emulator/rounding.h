// Arithmetic and conversions that round down, up or towards zero.
#pragma once

#define GPUNN_ROUND(mode, Mode)                                                                          \
    GPUNN_ROUND_TYPE(__f, float, mode, Mode)                                                             \
    GPUNN_ROUND_TYPE(__d, double, mode, Mode)                                                            \
    inline float __fmaf_##mode(float a, float b, float c) { GPUNN_ROUNDED(FusedSum, Mode, a, b, c); }    \
    inline double __fma_##mode(double a, double b, double c) { GPUNN_ROUNDED(FusedSum, Mode, a, b, c); } \
    inline float __fmaf_ieee_##mode(float a, float b, float c) { return __fmaf_##mode(a, b, c); }        \
    inline float __double2float_##mode(double x) {                                                       \
        return gpunn_emulator::ptx::format<float>::of(x, gpunn_emulator::ptx::Rounding::Mode);           \
    }                                                                                                    \
    GPUNN_ROUND_INTEGER(__int2float, float, int, mode, Mode)                                             \
    GPUNN_ROUND_INTEGER(__uint2float, float, unsigned, mode, Mode)                                       \
    GPUNN_ROUND_INTEGER(__ll2float, float, long long, mode, Mode)                                        \
    GPUNN_ROUND_INTEGER(__ull2float, float, unsigned long long, mode, Mode)                              \
    GPUNN_ROUND_INTEGER(__ll2double, double, long long, mode, Mode)                                      \
    GPUNN_ROUND_INTEGER(__ull2double, double, unsigned long long, mode, Mode)

#define GPUNN_ROUND_TYPE(prefix, T, mode, Mode)                                           \
    inline T prefix##add_##mode(T a, T b) { GPUNN_ROUNDED(Sum, Mode, a, b, a); }          \
    inline T prefix##sub_##mode(T a, T b) { GPUNN_ROUNDED(Difference, Mode, a, b, a); }   \
    inline T prefix##mul_##mode(T a, T b) { GPUNN_ROUNDED(MultipliedBy, Mode, a, b, a); } \
    inline T prefix##div_##mode(T a, T b) { GPUNN_ROUNDED(Quotient, Mode, a, b, a); }     \
    inline T prefix##rcp_##mode(T a) { GPUNN_ROUNDED(Quotient, Mode, (T)1, a, a); }       \
    inline T prefix##sqrt_##mode(T a) { GPUNN_ROUNDED(Root, Mode, a, a, a); }

#define GPUNN_ROUNDED(Operation, Mode, a, b, c)                                                                        \
    return gpunn_emulator::ptx::arithmetic<gpunn_emulator::ptx::Operation, gpunn_emulator::ptx::Rounding::Mode, false, \
                                           false>(a, b, c)

#define GPUNN_ROUND_INTEGER(name, T, Integer, mode, Mode)                                              \
    inline T name##_##mode(Integer x) {                                                                \
        return gpunn_emulator::ptx::FromInteger<T, gpunn_emulator::ptx::Rounding::Mode, false>::of(x); \
    }

GPUNN_ROUND(rd, rm)
GPUNN_ROUND(ru, rp)
GPUNN_ROUND(rz, rz)
inline float __fmaf_ieee_rn(float a, float b, float c) { return fmaf(a, b, c); }

// --- two products of 16 and 8 bits, added to c; bytes in vectors ---------------------------------------------------

#define GPUNN_DOT(Integer, Half, Byte)                                                                   \
    inline Integer __dp2a_lo(Integer a, Integer b, Integer c) {                                          \
        return (Integer)gpunn_emulator::ptx::dp2a<Integer, Integer, false>(a, b, (unsigned)c);           \
    }                                                                                                    \
    inline Integer __dp2a_hi(Integer a, Integer b, Integer c) {                                          \
        return (Integer)gpunn_emulator::ptx::dp2a<Integer, Integer, true>(a, b, (unsigned)c);            \
    }                                                                                                    \
    inline Integer __dp2a_lo(Half a, Byte b, Integer c) {                                                \
        return __dp2a_lo(gpunn_emulator::bit_cast<Integer>(a), gpunn_emulator::bit_cast<Integer>(b), c); \
    }                                                                                                    \
    inline Integer __dp2a_hi(Half a, Byte b, Integer c) {                                                \
        return __dp2a_hi(gpunn_emulator::bit_cast<Integer>(a), gpunn_emulator::bit_cast<Integer>(b), c); \
    }                                                                                                    \
    inline Integer __dp4a(Byte a, Byte b, Integer c) {                                                   \
        return __dp4a(gpunn_emulator::bit_cast<Integer>(a), gpunn_emulator::bit_cast<Integer>(b), c);    \
    }
GPUNN_DOT(int, short2, char4)
GPUNN_DOT(unsigned, ushort2, uchar4)
