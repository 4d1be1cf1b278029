// Of libcu++: a number of bytes, and the alignment of what has them.
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
