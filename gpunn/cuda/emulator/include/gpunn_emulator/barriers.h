// Barriers of a block, fences and time.
#pragma once

// Macros, so that every place in the source has a number of its own: the compiler may merge two calls that
// look the same, and the check for divergent barriers would then miss them. Each may have :: before it.
#define __syncthreads() gpunn_emulator::block_barrier(0, __COUNTER__).ignore()
#define __syncthreads_count(predicate) gpunn_emulator::block_barrier((predicate) != 0, __COUNTER__).count
#define __syncthreads_and(predicate) gpunn_emulator::block_barrier((predicate) != 0, __COUNTER__).all
#define __syncthreads_or(predicate) gpunn_emulator::block_barrier((predicate) != 0, __COUNTER__).any

__forceinline__ void __syncwarp(unsigned mask = 0xffffffffu) { ::gpunn_emulator::warp_barrier(mask); }

__forceinline__ void __threadfence_block() { ::gpunn_emulator::note_fence(); }
__forceinline__ void __threadfence() { ::gpunn_emulator::note_fence(); }
__forceinline__ void __threadfence_system() { ::gpunn_emulator::note_fence(); }

// Threads of a block take turns on one host thread: the one that is waited for may run at once.
__forceinline__ void __nanosleep(unsigned) { ::gpunn_emulator::yield(); }

__forceinline__ long long clock64() { return (long long)::gpunn_emulator::nanoseconds_now(); }
__forceinline__ int clock() { return (int)::gpunn_emulator::nanoseconds_now(); }

__forceinline__ void __trap() { ::gpunn_emulator::trap(); }

extern "C" int printf(const char*, ...);

#ifdef NDEBUG
#define assert(expression) ((void)0)
#else
#define assert(expression) \
    ((expression) ? (void)0 : ::gpunn_emulator::assertion_failed(#expression, __FILE__, __LINE__))
#endif
