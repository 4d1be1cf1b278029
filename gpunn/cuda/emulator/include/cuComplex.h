// Stands for CUDA's header of this name: complex numbers as pairs of float or double.
#pragma once

typedef float2 cuFloatComplex;
typedef float2 cuComplex;
typedef double2 cuDoubleComplex;

// `f` ends the names of the functions on float: cuCaddf, cuCadd.
#define GPUNN_COMPLEX(name, real, f)                                                                             \
    inline name make_##name(real x, real y) { return {x, y}; }                                                   \
    inline real cuCreal##f(name x) { return x.x; }                                                               \
    inline real cuCimag##f(name x) { return x.y; }                                                               \
    inline name cuConj##f(name x) { return {x.x, -x.y}; }                                                        \
    inline real cuCabs##f(name x) { return hypot##f(x.x, x.y); }                                                 \
    inline name cuCadd##f(name x, name y) { return {x.x + y.x, x.y + y.y}; }                                     \
    inline name cuCsub##f(name x, name y) { return {x.x - y.x, x.y - y.y}; }                                     \
    inline name cuCmul##f(name x, name y) { return {x.x * y.x - x.y * y.y, x.x * y.y + x.y * y.x}; }             \
    inline name cuCfma##f(name x, name y, name z) {                                                              \
        return {fma##f(-x.y, y.y, fma##f(x.x, y.x, z.x)), fma##f(x.y, y.x, fma##f(x.x, y.y, z.y))};              \
    }                                                                                                            \
    /* Both are scaled by the size of y, so that its square neither overflows nor vanishes. */                   \
    inline name cuCdiv##f(name x, name y) {                                                                      \
        real scale = 1 / (fabs##f(y.x) + fabs##f(y.y));                                                          \
        name a = {x.x * scale, x.y * scale}, b = {y.x * scale, y.y * scale};                                     \
        real square = b.x * b.x + b.y * b.y;                                                                     \
        return {(a.x * b.x + a.y * b.y) / square, (a.y * b.x - a.x * b.y) / square};                             \
    }

GPUNN_COMPLEX(cuFloatComplex, float, f)
GPUNN_COMPLEX(cuDoubleComplex, double, )

inline cuComplex make_cuComplex(float x, float y) { return {x, y}; }
inline cuDoubleComplex cuComplexFloatToDouble(cuFloatComplex x) { return {x.x, x.y}; }
inline cuFloatComplex cuComplexDoubleToFloat(cuDoubleComplex x) { return {(float)x.x, (float)x.y}; }
