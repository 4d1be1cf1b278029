// Stands for CUDA's header of this name.
#pragma once
#include "cuda_fp16.h"

#ifdef __CUDA_NO_BFLOAT16_CONVERSIONS__
GPUNN_HALF_TYPE(__nv_bfloat16, __nv_bfloat162, )
#else
GPUNN_HALF_TYPE(__nv_bfloat16, __nv_bfloat162, GPUNN_HALF_MEMBERS(__nv_bfloat16, __half))
inline __nv_bfloat16::__nv_bfloat16(__half x) : __nv_bfloat16(__half2float(x)) {}
#endif
GPUNN_HALF_FUNCTIONS(__nv_bfloat16, __nv_bfloat162)
GPUNN_HALF_CONVERSIONS(__nv_bfloat16, __nv_bfloat162, bfloat16)
#ifndef __CUDA_NO_HALF_CONVERSIONS__
inline __half::__half(__nv_bfloat16 x) : __half(__bfloat162float(x)) {}
#endif

#define CUDART_ZERO_BF16 __ushort_as_bfloat16((unsigned short)0x0000)
#define CUDART_NEG_ZERO_BF16 __ushort_as_bfloat16((unsigned short)0x8000)
#define CUDART_ONE_BF16 __ushort_as_bfloat16((unsigned short)0x3f80)
#define CUDART_INF_BF16 __ushort_as_bfloat16((unsigned short)0x7f80)
#define CUDART_NAN_BF16 __ushort_as_bfloat16((unsigned short)0x7fff)
#define CUDART_MIN_DENORM_BF16 __ushort_as_bfloat16((unsigned short)0x0001)
#define CUDART_MAX_NORMAL_BF16 __ushort_as_bfloat16((unsigned short)0x7f7f)

#ifndef __CUDA_NO_BFLOAT16_OPERATORS__
GPUNN_HALF_OPERATORS(__nv_bfloat16, __hadd, __hsub, __hmul, __hdiv, __hneg, CUDART_ONE_BF16)
GPUNN_HALF_ORDER(__nv_bfloat16, __h, )
#endif
#ifndef __CUDA_NO_BFLOAT162_OPERATORS__
GPUNN_HALF_OPERATORS(__nv_bfloat162, __hadd2, __hsub2, __hmul2, __h2div, __hneg2, __bfloat162bfloat162(CUDART_ONE_BF16))
GPUNN_HALF_ORDER(__nv_bfloat162, __hb, 2)
#endif

#ifndef CUDA_NO_BFLOAT16
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;
#endif
