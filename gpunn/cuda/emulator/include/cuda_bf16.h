// Stands for CUDA's header of this name.
#pragma once
#include "gpunn_emulator/half_types.h"

GPUNN_HALF_TYPE(__nv_bfloat16, __nv_bfloat162, bfloat16_to_float, float_to_bfloat16)
GPUNN_HALF_CONVERSIONS(__nv_bfloat16, __nv_bfloat162, bfloat16)
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;
