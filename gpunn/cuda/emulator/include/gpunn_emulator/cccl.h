// What NVIDIA's own libcu++, CUB and Thrust (the CCCL) want of NVRTC, where the source brings them along. See
// ../cuda/std/__cccl.
#pragma once

#define __CUDA_ARCH_LIST__ __CUDA_ARCH__

typedef long clock_t;
enum cudaSharedMemConfig {
    cudaSharedMemBankSizeDefault = 0,
    cudaSharedMemBankSizeFourByte = 1,
    cudaSharedMemBankSizeEightByte = 2
};

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
