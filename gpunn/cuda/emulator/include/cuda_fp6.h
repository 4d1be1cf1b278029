// Stands for CUDA's header of this name.
#pragma once
#include "cuda_fp8.h"

typedef __nv_fp8_storage_t __nv_fp6_storage_t;
typedef __nv_fp8x2_storage_t __nv_fp6x2_storage_t;
typedef __nv_fp8x4_storage_t __nv_fp6x4_storage_t;
typedef enum __nv_fp6_interpretation_t { __NV_E2M3, __NV_E3M2 } __nv_fp6_interpretation_t;
#define __CUDA_FP6_TYPES_EXIST__

namespace gpunn_emulator {

inline narrow_format format_of(__nv_fp6_interpretation_t kind) {
    return kind == __NV_E2M3 ? narrow_format{3, 0, 0x1f, 0x20} : narrow_format{2, -2, 0x1f, 0x20};
}

template <__nv_fp6_interpretation_t kind> struct fp6 : stored_in_bytes {
    static storage from_double(double x) { return (storage)to_finite(x, format_of(kind), cudaRoundNearest); }
    static float to_float(unsigned x) { return from_narrow((int)x, format_of(kind)); }
};

}  // namespace gpunn_emulator

GPUNN_NARROW_FUNCTIONS(fp6, 8)
GPUNN_NARROW_TYPES(__nv_fp6_e2m3, __nv_fp6x2_e2m3, __nv_fp6x4_e2m3, gpunn_emulator::fp6<__NV_E2M3>)
GPUNN_NARROW_TYPES(__nv_fp6_e3m2, __nv_fp6x2_e3m2, __nv_fp6x4_e3m2, gpunn_emulator::fp6<__NV_E3M2>)
