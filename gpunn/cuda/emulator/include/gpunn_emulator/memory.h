// Loads and stores with a cache hint: the hint means nothing on a CPU.
#pragma once

#define GPUNN_LOAD(name) \
    template <class T> __forceinline__ T name(const T* address) { return *address; }
#define GPUNN_STORE(name)                                                                     \
    template <class T>                                                                        \
    __forceinline__ void name(T* address, typename gpunn_emulator::identity<T>::type value) { \
        *address = value;                                                                     \
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

inline size_t __cvta_generic_to_shared(const void* address) { return gpunn_emulator::shared_address(address); }
inline void* __cvta_shared_to_generic(size_t address) { return gpunn_emulator::shared_pointer((unsigned)address); }
inline size_t __cvta_generic_to_global(const void* address) { return (size_t)address; }
inline void* __cvta_global_to_generic(size_t address) { return (void*)address; }

extern "C" void* memcpy(void*, const void*, size_t) noexcept;
extern "C" void* memset(void*, int, size_t) noexcept;

#if defined(GPUNN_EMULATOR_WATCH) && !defined(__clang__)
// GCC does not watch what the C library does. These fit a typed pointer better than the functions above.
template <class To, class From> GPUNN_UNWATCHED void* memcpy(To* to, const From* from, size_t bytes) {
    gpunn_emulator::note_access(from, bytes, false, __builtin_return_address(0));
    gpunn_emulator::note_access(to, bytes, true, __builtin_return_address(0));
    return __builtin_memcpy(to, from, bytes);
}
template <class To> GPUNN_UNWATCHED void* memset(To* to, int value, size_t bytes) {
    gpunn_emulator::note_access(to, bytes, true, __builtin_return_address(0));
    return __builtin_memset(to, value, bytes);
}
#endif

namespace gpunn_emulator {

// Where `extern __shared__ T name[];` points.
template <class T> __forceinline__ T* dynamic_shared() { return (T*)current.block->dynamic_shared; }

}  // namespace gpunn_emulator
