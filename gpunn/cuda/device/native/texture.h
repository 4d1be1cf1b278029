// CUDA arrays, and what kernels see as textures and surfaces.
#pragma once
#include "device.h"

namespace gpunn_emulator {
struct Texture;
}

namespace gpunn_device {

struct Extent {
    std::size_t width, height, depth;
};
struct PitchedPointer {
    void* memory;
    std::size_t pitch, width, height;
};
struct Position {
    std::size_t x, y, z;
};
struct ChannelFormat {
    int x, y, z, w, kind;
};

// cudaMemcpy3DParms.
struct BoxCopy {
    std::intptr_t from_array;
    Position from_position;
    PitchedPointer from;
    std::intptr_t to_array;
    Position to_position;
    PitchedPointer to;
    Extent extent;
    int direction;
};

// cudaResourceDesc: an array, or memory in a line or in rows.
struct ResourceDescription {
    int type;
    union {
        std::intptr_t array;
        struct {
            void* memory;
            ChannelFormat format;
            std::size_t bytes;
        } linear;
        struct {
            void* memory;
            ChannelFormat format;
            std::size_t width, height, pitch;
        } rows;
    };
};

// cudaTextureDesc.
struct TextureDescription {
    int address_modes[3], filter_mode, read_mode, is_srgb;
    unsigned border[4];  // floats, or the bits of integers
    int normalized_coordinates;
    unsigned most_anisotropy;
    int mipmap_filter_mode;
    float mipmap_bias, least_mipmap, most_mipmap;
    int no_trilinear_optimization, seamless_cube;
};

static_assert(sizeof(BoxCopy) == 160 && sizeof(ResourceDescription) == 64 && sizeof(TextureDescription) == 72,
              "the sizes of CUDA's structures");

GPUNN_SHARED int array_create(std::intptr_t* out, const ChannelFormat& format, Extent extent, unsigned flags);
GPUNN_SHARED int array_destroy(std::intptr_t array);
GPUNN_SHARED int array_format(std::intptr_t array, ChannelFormat* out);
// `x` is in bytes, `y` in rows.
GPUNN_SHARED int copy_to_array(std::intptr_t array, std::size_t x, std::size_t y, const void* from, std::size_t pitch,
                               std::size_t width, std::size_t height, Direction direction, std::intptr_t stream,
                               bool asynchronous);
GPUNN_SHARED int copy_from_array(void* to, std::size_t pitch, std::intptr_t array, std::size_t x, std::size_t y,
                                 std::size_t width, std::size_t height, Direction direction, std::intptr_t stream,
                                 bool asynchronous);
GPUNN_SHARED int copy_box(const BoxCopy& copy, std::intptr_t stream, bool asynchronous);

GPUNN_SHARED int texture_create(std::uintmax_t* out, const ResourceDescription& resource,
                                const TextureDescription& description);
GPUNN_SHARED int surface_create(std::uintmax_t* out, const ResourceDescription& resource);
GPUNN_SHARED int texture_destroy(std::uintmax_t handle, bool is_surface);
// What it was made of; either may be null.
GPUNN_SHARED int texture_describe(std::uintmax_t handle, ResourceDescription* resource,
                                  TextureDescription* description);

// The table of them, for a launch.
const gpunn_emulator::Texture* const* textures();

}  // namespace gpunn_device
