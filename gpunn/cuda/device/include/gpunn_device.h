// Included ahead of what CuPy compiles: what NVRTC has beside what the emulator knows of it.
#pragma once

#include "gpunn_emulator.h"

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

namespace gpunn_device {
inline bool loaded(bool& x) { return reinterpret_cast<unsigned char&>(x) != 0; }
inline bool loaded(const bool& x) { return reinterpret_cast<const unsigned char&>(x) != 0; }
inline bool loaded(bool&& x) {  // a copy, of which the compiler would know that it is 0 or 1
    unsigned byte = x;
    asm("" : "+r"(byte));
    return byte != 0;
}
template <class T> inline T loaded(T&& x) { return static_cast<T&&>(x); }
}  // namespace gpunn_device
