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
}  // namespace gpunn_device
