// The words CUDA adds to C++.
#pragma once

// The loader reads these marks in the preprocessed text and then removes them: __gpunn_global__ shows
// where a kernel is declared, __gpunn_shared__ becomes thread_local (one block runs on one host thread at a
// time, so memory of that thread is memory of that block), and an `extern` one becomes a pointer to the
// launch's dynamic memory. In check mode __gpunn_constant__ shows what a kernel must not write to.
#define __global__ __gpunn_global__
#define __shared__ __gpunn_shared__

#ifdef GPUNN_EMULATOR_HOST_CODE  // ../../host_code.py reads these, too
#define __device__ __gpunn_device__
#define __noinline__ __gpunn_noinline__
#else
#define __device__
#define __noinline__ __attribute__((noinline))
#endif
#define __managed__ __device__
#define __host__
// "used": the compiler would take for zero what only the host writes.
#ifdef GPUNN_EMULATOR_COUNT
#define __constant__ __device__ __attribute__((used, section("gpunn_constant")))  // to tell it from global memory
#elif defined(GPUNN_EMULATOR_CHECK)
#define __constant__ __device__ __gpunn_constant__
#else
#define __constant__ __device__ __attribute__((used))
#endif
#define __grid_constant__
#define __cluster_dims__(...) __gpunn_cluster_dims__(__VA_ARGS__)
#define __launch_bounds__(...)
// Also what the headers give to kernels wherever a report could come from inside it: once inlined, the debug
// information names the kernel's own line.
#define __forceinline__ inline __attribute__((always_inline))
#ifndef __clang__
#define __builtin_assume(expression) ((void)0)
#endif
#define __align__(bytes) __attribute__((aligned(bytes)))

// Code of the emulator itself must not be watched by checks and counts: it reads and writes for several threads at
// once.
#ifdef GPUNN_EMULATOR_COUNT
#ifdef __clang__
#define GPUNN_UNWATCHED __attribute__((no_sanitize("thread", "coverage"), noinline))
#else
#define GPUNN_UNWATCHED __attribute__((no_sanitize("thread"), no_sanitize_coverage, noinline))
#endif
#elif defined(GPUNN_EMULATOR_CHECK)
#define GPUNN_UNWATCHED __attribute__((no_sanitize("thread"), no_sanitize("undefined"), noinline))
#else
#define GPUNN_UNWATCHED
#endif

typedef decltype(sizeof(0)) size_t;
typedef decltype((char*)0 - (char*)0) ptrdiff_t;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
#define NULL __null
