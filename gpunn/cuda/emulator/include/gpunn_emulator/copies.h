// Sizes and shares of asynchronous copies; of libcu++ a number of bytes, and the alignment of what has them.
#pragma once

namespace cuda {

template <size_t ALIGNMENT> struct aligned_size_t {
    static_assert(ALIGNMENT && (ALIGNMENT & (ALIGNMENT - 1)) == 0, "an alignment is a power of two");
    static constexpr size_t align = ALIGNMENT;
    size_t value;
    explicit constexpr aligned_size_t(size_t bytes) : value(bytes) {}
    constexpr operator size_t() const { return value; }
};

}  // namespace cuda

namespace gpunn_emulator {

// What CUDA takes for the alignment of both sides of a copy: what a size promises, or what the type has.
template <class T> struct alignment_of { static constexpr unsigned value = alignof(T) < 16 ? alignof(T) : 16; };
template <> struct alignment_of<void> { static constexpr unsigned value = 1; };
template <class Size, class T> struct copy_size {
    static_assert(is_integer<Size>::value, "memcpy_async takes a size that is an integer or a cuda::aligned_size_t");
    static constexpr unsigned alignment = alignment_of<T>::value;
    static constexpr unsigned multiple = 1;  // what the size is a multiple of
};
template <template <size_t> class Aligned, size_t ALIGNMENT, class T> struct copy_size<Aligned<ALIGNMENT>, T> {
    static constexpr unsigned alignment = ALIGNMENT < 16 ? ALIGNMENT : 16;
    static constexpr unsigned multiple = ALIGNMENT;
};

// Which thread copies what is not told by CUDA. Here each has neighbouring bytes.
template <class Group> __forceinline__ void copy_share(const Group& group, void* to, const void* from, size_t bytes) {
    size_t threads = group.size(), share = ((bytes + threads - 1) / threads + 15) / 16 * 16;
    size_t begin = share * group.thread_rank(), rest = begin < bytes ? bytes - begin : 0;
    if (rest) async_memory_copy((char*)to + begin, (const char*)from + begin, rest < share ? rest : share);
}

}  // namespace gpunn_emulator
