// A tensor map as ../tensor_maps.py packs it, and the emulated device. The innermost dimension is the first.
#pragma once
#include <cstdint>

namespace gpunn_emulator {

const std::uint64_t tensor_map_magic = 0x70616d726f736e74u;

struct TensorMap {
    std::uint64_t magic;
    char* memory;
    std::uint64_t strides[4];  // in bytes, of all dimensions but the first
    std::uint32_t sizes[5];
    std::uint16_t box[5];
    std::uint8_t element_strides[5];
    std::uint8_t rank, element_bytes, fills_with_nan;
    std::uint16_t swizzle;  // in bytes, 0: none
};

}  // namespace gpunn_emulator
