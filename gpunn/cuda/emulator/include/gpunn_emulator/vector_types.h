// char1 ... double4 and dim3, with CUDA's alignments: a misaligned float4 load has to fail here as it does
// there.
#pragma once

#define GPUNN_VECTOR_TYPES(name, type, align2, align4)                          \
    struct name##1 {                                                            \
        type x;                                                                 \
    };                                                                          \
    struct __attribute__((aligned(align2))) name##2 {                           \
        type x, y;                                                              \
    };                                                                          \
    struct name##3 {                                                            \
        type x, y, z;                                                           \
    };                                                                          \
    struct __attribute__((aligned(align4))) name##4 {                           \
        type x, y, z, w;                                                        \
    };                                                                          \
    inline name##1 make_##name##1(type x) { return {x}; }                       \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }            \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

GPUNN_VECTOR_TYPES(char, signed char, 2, 4)
GPUNN_VECTOR_TYPES(uchar, unsigned char, 2, 4)
GPUNN_VECTOR_TYPES(short, short, 4, 8)
GPUNN_VECTOR_TYPES(ushort, unsigned short, 4, 8)
GPUNN_VECTOR_TYPES(int, int, 8, 16)
GPUNN_VECTOR_TYPES(uint, unsigned int, 8, 16)
GPUNN_VECTOR_TYPES(long, long, 16, 16)
GPUNN_VECTOR_TYPES(ulong, unsigned long, 16, 16)
GPUNN_VECTOR_TYPES(longlong, long long, 16, 16)
GPUNN_VECTOR_TYPES(ulonglong, unsigned long long, 16, 16)
GPUNN_VECTOR_TYPES(float, float, 8, 16)
GPUNN_VECTOR_TYPES(double, double, 16, 16)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return uint3{x, y, z}; }
};
