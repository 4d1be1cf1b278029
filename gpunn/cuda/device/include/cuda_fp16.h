// What CuPy's own header wants beside the emulator's.
#pragma once
#include_next <cuda_fp16.h>

struct __half_raw {
    unsigned short x;
    __half_raw() = default;
    explicit __half_raw(__half h) : x(h.__x) {}
    operator __half() const { return __ushort_as_half(x); }
};
