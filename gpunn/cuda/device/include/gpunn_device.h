// Included ahead of what CuPy compiles: what NVRTC has beside what the emulator knows of it.
#pragma once

#include "gpunn_emulator.h"
#include "gpunn_emulator/cccl.h"

namespace gpunn_device {
inline bool loaded(bool& x) { return reinterpret_cast<unsigned char&>(x) != 0; }
inline bool loaded(const bool& x) { return reinterpret_cast<const unsigned char&>(x) != 0; }
inline bool loaded(bool&& x) {  // a copy, of which the compiler would know that it is 0 or 1
    unsigned byte = x;
    asm("" : "+r"(byte));
    return byte != 0;
}
template <class T> inline T loaded(T&& x) { return static_cast<T&&>(x); }

template <class T, class N> inline auto shifted_left(T x, N n) -> decltype(x << n) {
    return (unsigned long long)n < 8 * sizeof(x << n) ? x << n : 0;
}
template <class T, class N> inline auto shifted_right(T x, N n) -> decltype(x >> n) {
    return (unsigned long long)n < 8 * sizeof(x >> n) ? x >> n : -(x < 0);
}
}  // namespace gpunn_device
