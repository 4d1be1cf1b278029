// Stands for CUDA's header of this name.
#pragma once
#include "gpunn_emulator/half_types.h"

GPUNN_HALF_TYPE(__half, __half2, half_to_float, float_to_half)
GPUNN_HALF_CONVERSIONS(__half, __half2, half)
typedef __half half;
typedef __half2 half2;

inline int __half2int_rn(__half x) { return __float2int_rn(x); }
inline int __half2int_rz(__half x) { return __float2int_rz(x); }
inline __half2 __lowhigh2highlow(__half2 x) { return {x.y, x.x}; }
inline __half2 __lows2half2(__half2 a, __half2 b) { return {a.x, b.x}; }
inline __half2 __highs2half2(__half2 a, __half2 b) { return {a.y, b.y}; }
