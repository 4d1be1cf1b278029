// Loads and stores with a cache hint: the hint means nothing on a CPU.
#pragma once

#define GPUNN_LOAD(name) \
    template <class T> __forceinline__ T name(const T* address) { return *address; }
#define GPUNN_STORE(name)                                                                                        \
    template <class T> __forceinline__ void name(T* address, typename gpunn_emulator::identity<T>::type value) { \
        *address = value;                                                                                        \
    }

GPUNN_LOAD(__ldg)
GPUNN_LOAD(__ldca)
GPUNN_LOAD(__ldcg)
GPUNN_LOAD(__ldcs)
GPUNN_LOAD(__ldcv)
GPUNN_LOAD(__ldlu)
GPUNN_STORE(__stcg)
GPUNN_STORE(__stcs)
GPUNN_STORE(__stwb)
GPUNN_STORE(__stwt)

inline size_t __cvta_generic_to_shared(const void* address) { return (size_t)address; }
inline size_t __cvta_generic_to_global(const void* address) { return (size_t)address; }

extern "C" void* memcpy(void*, const void*, size_t) noexcept;
extern "C" void* memset(void*, int, size_t) noexcept;

namespace gpunn_emulator {

// Where `extern __shared__ T name[];` points.
template <class T> __forceinline__ T* dynamic_shared() { return (T*)current.block->dynamic_shared; }

}  // namespace gpunn_emulator
