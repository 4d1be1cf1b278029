// malloc, free, new and delete of kernels, with memory of a heap that belongs to the GPU, and what the host's C++ has in
// a library that kernels are not linked to.
#pragma once

// The names that the linker sees are the runtime's: the process has other functions of the names here.
extern "C" void* malloc(size_t bytes) noexcept __asm__("gpunn_emulator_malloc");
extern "C" void free(void* memory) noexcept __asm__("gpunn_emulator_free");

extern "C" void* __nv_aligned_device_malloc(size_t bytes, size_t alignment) noexcept
    __asm__("gpunn_emulator_aligned_malloc");

#ifdef __clang__
#define GPUNN_NEW(name) void* name(size_t bytes) __asm__("gpunn_emulator_malloc");
#define GPUNN_DELETE(name, ...) void name(void* memory __VA_ARGS__) noexcept __asm__("gpunn_emulator_free");
#else  // g++ 12 does not survive the other name
#define GPUNN_HIDDEN __attribute__((visibility("hidden"), used))
#define GPUNN_NEW(name) \
    GPUNN_HIDDEN void* name(size_t bytes) { return malloc(bytes); }
#define GPUNN_DELETE(name, ...) \
    GPUNN_HIDDEN void name(void* memory __VA_ARGS__) noexcept { free(memory); }
#endif
GPUNN_NEW(operator new)
GPUNN_NEW(operator new[])
GPUNN_DELETE(operator delete)
GPUNN_DELETE(operator delete[])
#if __cpp_sized_deallocation
GPUNN_DELETE(operator delete, , size_t)
GPUNN_DELETE(operator delete[], , size_t)
#endif

// What a pure virtual function is.
extern "C" __attribute__((visibility("hidden"), used)) void __cxa_pure_virtual() { gpunn_emulator::trap(); }

// As templates they do not meet those of <new>.
template <class T> __forceinline__ void* operator new(size_t, T* place) noexcept { return (void*)place; }
template <class T> __forceinline__ void* operator new[](size_t, T* place) noexcept { return (void*)place; }
