// Stands for CUDA's header of this name.
#pragma once
#include "gpunn_emulator/half_types.h"

#ifdef __CUDA_NO_HALF_CONVERSIONS__
GPUNN_HALF_TYPE(__half, __half2, )
#else
GPUNN_HALF_TYPE(__half, __half2, GPUNN_HALF_MEMBERS(__half, __nv_bfloat16))
#endif
GPUNN_HALF_FUNCTIONS(__half, __half2)
GPUNN_HALF_CONVERSIONS(__half, __half2, half)

#define CUDART_ZERO_FP16 __ushort_as_half((unsigned short)0x0000)
#define CUDART_NEG_ZERO_FP16 __ushort_as_half((unsigned short)0x8000)
#define CUDART_ONE_FP16 __ushort_as_half((unsigned short)0x3c00)
#define CUDART_INF_FP16 __ushort_as_half((unsigned short)0x7c00)
#define CUDART_NAN_FP16 __ushort_as_half((unsigned short)0x7fff)
#define CUDART_MIN_DENORM_FP16 __ushort_as_half((unsigned short)0x0001)
#define CUDART_MAX_NORMAL_FP16 __ushort_as_half((unsigned short)0x7bff)

#ifndef __CUDA_NO_HALF_OPERATORS__
GPUNN_HALF_OPERATORS(__half, __hadd, __hsub, __hmul, __hdiv, __hneg, CUDART_ONE_FP16)
GPUNN_HALF_ORDER(__half, __h, )
#endif
#ifndef __CUDA_NO_HALF2_OPERATORS__
GPUNN_HALF_OPERATORS(__half2, __hadd2, __hsub2, __hmul2, __h2div, __hneg2, __half2half2(CUDART_ONE_FP16))
GPUNN_HALF_ORDER(__half2, __hb, 2)
#endif

typedef __half __nv_half;
typedef __half2 __nv_half2;
typedef __half_raw __nv_half_raw;
typedef __half2_raw __nv_half2_raw;
#ifndef CUDA_NO_HALF
typedef __half half;
typedef __half2 half2;
typedef __half nv_half;
typedef __half2 nv_half2;
#endif
