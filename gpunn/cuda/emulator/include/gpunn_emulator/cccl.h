// What NVIDIA's own libcu++, CUB and Thrust (the CCCL) want of NVRTC, where the source brings them along. See
// ../cuda/std/__cccl.
#pragma once
#include "placement.h"

#define CUDART_VERSION (1000 * __CUDACC_VER_MAJOR__ + 10 * __CUDACC_VER_MINOR__)
#define __CUDA_ARCH_LIST__ __CUDA_ARCH__
#define CCCL_DISABLE_NVFP8_SUPPORT 1  // libcu++ would ask for e8m0, which is not emulated

typedef long clock_t;
enum cudaError { cudaSuccess = 0 };
typedef enum cudaError cudaError_t;
enum cudaSharedMemConfig {
    cudaSharedMemBankSizeDefault = 0,
    cudaSharedMemBankSizeFourByte = 1,
    cudaSharedMemBankSizeEightByte = 2
};

// Kernels may ask the GPU for memory; here that is refused where one does, and may be named where none does.
extern "C" __attribute__((error("malloc in a kernel is not emulated"))) void* malloc(size_t);
extern "C" void free(void*);

// The smaller, or the larger, of each half of two words.
namespace gpunn_emulator {
template <class Half> __forceinline__ unsigned chosen_halves(unsigned a, unsigned b, bool larger) {
    unsigned result = 0;
    for (int i = 0; i < 32; i += 16) {
        Half x = (Half)(a >> i), y = (Half)(b >> i);
        result |= (unsigned)(unsigned short)((x < y) == larger ? y : x) << i;
    }
    return result;
}
}  // namespace gpunn_emulator
__forceinline__ unsigned __vmins2(unsigned a, unsigned b) { return gpunn_emulator::chosen_halves<short>(a, b, false); }
__forceinline__ unsigned __vmaxs2(unsigned a, unsigned b) { return gpunn_emulator::chosen_halves<short>(a, b, true); }
__forceinline__ unsigned __vminu2(unsigned a, unsigned b) {
    return gpunn_emulator::chosen_halves<unsigned short>(a, b, false);
}
__forceinline__ unsigned __vmaxu2(unsigned a, unsigned b) {
    return gpunn_emulator::chosen_halves<unsigned short>(a, b, true);
}

// The compiler makes one of these of every {a, b, c}, and wants it to be made like this.
namespace std {
template <class T> class initializer_list {
  public:
    typedef T value_type;
    typedef const T& reference;
    typedef const T& const_reference;
    typedef size_t size_type;
    typedef const T* iterator;
    typedef const T* const_iterator;
    constexpr initializer_list() noexcept : first(nullptr), count(0) {}
    constexpr size_t size() const noexcept { return count; }
    constexpr const T* begin() const noexcept { return first; }
    constexpr const T* end() const noexcept { return first + count; }

  private:
    const T* first;
    size_t count;
    constexpr initializer_list(const T* first, size_t count) : first(first), count(count) {}
};
}  // namespace std
