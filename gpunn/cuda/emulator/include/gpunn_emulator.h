// What a CUDA kernel finds when the host compiler builds it: this header is included ahead of the kernel's
// own source, which stays as it is.
//
// The kernel libraries are compiled by the hundred, so nothing here includes a header of the C++ library:
// <cmath> alone would cost more than the rest of a small kernel.
#pragma once

#define GPUNN_EMULATOR 1
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#ifndef __CUDACC_VER_MAJOR__
#define __CUDACC_VER_MAJOR__ 12
#define __CUDACC_VER_MINOR__ 9
#endif

#include "gpunn_emulator/qualifiers.h"
#include "gpunn_emulator/vector_types.h"
#include "gpunn_emulator/runtime_types.h"
#include "gpunn_emulator/interface.h"
#include "gpunn_emulator/traits.h"
#include "gpunn_emulator/shifts.h"
#include "gpunn_emulator/barriers.h"
#include "gpunn_emulator/clusters.h"
#include "gpunn_emulator/warp.h"
#include "gpunn_emulator/atomics.h"
#include "gpunn_emulator/memory.h"
#include "gpunn_emulator/heap.h"
#include "gpunn_emulator/texture.h"
#include "gpunn_emulator/bits.h"
#include "gpunn_emulator/simd.h"
#include "gpunn_emulator/device_math.h"
#include "gpunn_emulator/ptx_instructions.h"
#include "gpunn_emulator/rounding.h"
#include "gpunn_emulator/kernel_call.h"
#if __has_include(<cuda/__cccl_config>)
#include "gpunn_emulator/cccl.h"
#endif
