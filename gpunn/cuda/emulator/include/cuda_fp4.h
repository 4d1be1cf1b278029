// Stands for CUDA's header of this name.
#pragma once
#include "cuda_fp6.h"

typedef __nv_fp8_storage_t __nv_fp4_storage_t;
typedef __nv_fp8_storage_t __nv_fp4x2_storage_t;
typedef __nv_fp8x2_storage_t __nv_fp4x4_storage_t;
typedef enum __nv_fp4_interpretation_t { __NV_E2M1 } __nv_fp4_interpretation_t;
#define __CUDA_FP4_TYPES_EXIST__

namespace gpunn_emulator {

inline narrow_format format_of(__nv_fp4_interpretation_t) { return {1, 0, 7, 8}; }

struct fp4 {
    typedef __nv_fp4_storage_t storage;
    typedef __nv_fp4x2_storage_t pair_storage;
    typedef __nv_fp4x4_storage_t quad_storage;
    static const int bits = 4;
    static storage from_double(double x) { return (storage)to_finite(x, format_of(__NV_E2M1), cudaRoundNearest); }
    static float to_float(unsigned x) { return from_narrow((int)x, format_of(__NV_E2M1)); }
};

}  // namespace gpunn_emulator

GPUNN_NARROW_FUNCTIONS(fp4, 4)
GPUNN_NARROW_TYPES(__nv_fp4_e2m1, __nv_fp4x2_e2m1, __nv_fp4x4_e2m1, gpunn_emulator::fp4)
