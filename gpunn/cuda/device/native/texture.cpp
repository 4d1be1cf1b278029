// CUDA arrays are allocations whose rows lie one after the other. Textures and surfaces are entries of the table in
// which kernels look handles up (../../emulator/runtime/texture.cpp).
#include "texture.h"

#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "../../emulator/runtime/launch.h"

namespace gpunn_device {

namespace emulator = gpunn_emulator;

namespace {

enum Flags : unsigned { layered = 1, surface_load_store = 2, cubemap = 4, texture_gather = 8 };
enum ResourceType : int { of_array, of_mipmapped_array, of_linear_memory, of_rows };
enum AddressMode : int { wrap, clamp, mirror, border };
// The order of `enum class TextureShape` in ../../emulator/include/gpunn_emulator/interface.h.
enum Shape : int { linear, one, two, three, one_layered, two_layered, cube, cube_layered };

const std::size_t texture_alignment = 512, pitch_alignment = 32;  // bytes
const int float_kind = 2;                                         // of channels: after signed and unsigned integers

struct Array {
    ChannelFormat format;
    Extent extent;  // without zeros
    unsigned flags;
    Shape shape;
    char* memory;
    std::size_t element, row, slice;  // bytes
};

std::unordered_map<std::intptr_t, std::unique_ptr<Array>> arrays;

struct Object {
    emulator::Texture seen;
    ResourceDescription resource;
    TextureDescription description;
    bool leaving = false;  // it was destroyed, and kernels that wait in streams may have its handle
};

std::unordered_map<std::uintmax_t, std::unique_ptr<Object>> objects;
std::vector<std::uintmax_t> leaving;
std::vector<std::size_t> free_slots;
std::size_t used_slots = 0;
std::uintmax_t serial = 0;

const Array* array_of(std::intptr_t handle) {
    auto found = arrays.find(handle);
    return found == arrays.end() ? nullptr : found->second.get();
}

// The number of channels, or 0 for a format that is none.
int channels_of(const ChannelFormat& f) {
    const int bits[] = {f.x, f.y, f.z, f.w};
    int count = 0;
    while (count < 4 && bits[count]) count++;
    for (int i = 0; i < 4; i++)
        if (bits[i] != (i < count ? f.x : 0)) return 0;
    bool known = f.kind == float_kind ? f.x == 16 || f.x == 32
                                      : f.kind >= 0 && f.kind < float_kind && (f.x == 8 || f.x == 16 || f.x == 32);
    return known && count != 3 ? count : 0;
}

std::size_t element_bytes(const ChannelFormat& f) { return (std::size_t)(channels_of(f) * f.x / 8); }

bool shape_of(Extent e, unsigned flags, Shape* out) {
    if (flags & cubemap) {
        *out = flags & layered ? cube_layered : cube;
        return e.width == e.height && e.depth && (flags & layered ? e.depth % 6 == 0 : e.depth == 6);
    }
    if (flags & layered) {
        *out = e.height ? two_layered : one_layered;
        return e.depth != 0;
    }
    *out = e.depth ? three : e.height ? two : one;
    return !e.depth || e.height;
}

// Of compute capability 9.0; of an array that surfaces see, the width of one dimension is smaller.
Extent largest(Shape shape, unsigned flags) {
    switch (shape) {
        case linear: return {(std::size_t)1 << 28, 1, 1};
        case one: return {flags & surface_load_store ? (std::size_t)32768 : 131072, 1, 1};
        case two: return flags & texture_gather ? Extent{32768, 32768, 1} : Extent{131072, 65536, 1};
        case three: return {16384, 16384, 16384};
        case one_layered: return {32768, 1, 2048};
        case two_layered: return {32768, 32768, 2048};
        case cube: return {32768, 32768, 6};
        default: return {32768, 32768, 2046};
    }
}

// Where a copy begins, on either side.
struct Place {
    char* memory;
    std::size_t row, slice;  // bytes from one to the next
};

bool within(std::size_t from, std::size_t length, std::size_t size) { return from <= size && length <= size - from; }

int copy_slices(Place to, Place from, std::size_t width, std::size_t height, std::size_t depth, Direction direction,
                std::intptr_t stream, bool asynchronous) {
    if (!width || !height || !depth) return success;
    bool even = to.slice == to.row * height && from.slice == from.row * height;
    std::size_t copies = even ? 1 : depth, rows = even ? height * depth : height;
    for (std::size_t i = 0; i < copies; i++)
        if (int error = copy_rows(to.memory + i * to.slice, to.row, from.memory + i * from.slice, from.row, width, rows,
                                  direction, stream, asynchronous))
            return error;
    return success;
}

// The place in an array of a box that begins at a byte of a row.
int place_in(const Array& array, std::size_t x, std::size_t y, std::size_t z, std::size_t width, std::size_t height,
             std::size_t depth, Place* out) {
    if (!within(x, width, array.row) || !within(y, height, array.extent.height) ||
        !within(z, depth, array.extent.depth))
        return invalid_value;
    *out = {array.memory + z * array.slice + y * array.row + x, array.row, array.slice};
    return success;
}

// `width` is in bytes.
int side_of_box(std::intptr_t handle, Position position, const PitchedPointer& memory, std::size_t width, Extent extent,
                Place* out) {
    const Array* array = handle ? array_of(handle) : nullptr;
    if (handle && (!array || memory.memory)) return invalid_value;
    if (array) {
        std::size_t x = position.x * array->element;
        return place_in(*array, x, position.y, position.z, width, extent.height, extent.depth, out);
    }
    std::size_t row = memory.pitch, slice = row * memory.height;
    if (!memory.memory || row < position.x + width || (extent.depth > 1 && memory.height < extent.height))
        return invalid_value;
    *out = {(char*)memory.memory + position.z * slice + position.y * row + position.x, row, slice};
    return success;
}

const emulator::Texture** table() {
    static auto* made = (const emulator::Texture**)std::calloc(emulator::texture_slots, sizeof(emulator::Texture*));
    return made;
}

Object* object_of(std::uintmax_t handle, bool is_surface) {
    auto found = objects.find(handle);
    if (found == objects.end() || found->second->leaving) return nullptr;
    return (bool)found->second->seen.is_surface == is_surface ? found->second.get() : nullptr;
}

// To be called when no kernel waits.
void forget_leaving() {
    for (std::uintmax_t handle : leaving) {
        std::size_t slot = handle % emulator::texture_slots;
        table()[slot] = nullptr;
        free_slots.push_back(slot);
        objects.erase(handle);
    }
    leaving.clear();
}

int add(std::uintmax_t* out, std::unique_ptr<Object> object) {
    if (free_slots.empty() && used_slots == emulator::texture_slots) {
        if (int error = run_all()) return error;
        forget_leaving();
    }
    if (!table() || (free_slots.empty() && used_slots == emulator::texture_slots)) return out_of_memory;
    std::size_t slot = used_slots;
    if (free_slots.empty()) {
        used_slots++;
    } else {
        slot = free_slots.back();
        free_slots.pop_back();
    }
    *out = object->seen.handle = ++serial * emulator::texture_slots + slot;
    table()[slot] = &object->seen;
    objects[*out] = std::move(object);
    return success;
}

void set_format(emulator::Texture& seen, const ChannelFormat& format) {
    seen.channels = channels_of(format);
    seen.bits = format.x;
    seen.kind = format.kind;
}

void set_array(emulator::Texture& seen, const Array& array) {
    seen.memory = array.memory;
    seen.row_pitch = array.row;
    seen.slice_pitch = array.slice;
    seen.shape = array.shape;
    seen.width = (unsigned)array.extent.width;
    seen.height = (unsigned)array.extent.height;
    seen.depth = (unsigned)array.extent.depth;
    seen.may_gather = (array.flags & texture_gather) != 0;
    set_format(seen, array.format);
}

// Memory that is no array: it must be there, and its elements must have a format.
int set_memory(emulator::Texture& seen, void* memory, const ChannelFormat& format, Shape shape, std::size_t width,
               std::size_t height, std::size_t pitch) {
    std::size_t element = element_bytes(format);
    Block* block = find_block(memory);
    Extent most = largest(shape, 0);
    std::size_t bytes = height ? pitch * (height - 1) + width * element : 0;
    bool fits = width && height && width <= most.width && height <= most.height && pitch >= width * element;
    if (!element || !fits || (std::size_t)memory % texture_alignment) return invalid_value;
    if (!block || block->kind == Kind::host) return invalid_value;
    if (!within((std::size_t)((char*)memory - block->begin), bytes, block->bytes)) return invalid_value;
    seen.memory = (char*)memory;
    seen.row_pitch = seen.slice_pitch = pitch;
    seen.shape = shape;
    seen.width = (unsigned)width;
    seen.height = (unsigned)height;
    seen.depth = 1;
    set_format(seen, format);
    return success;
}

int set_resource(emulator::Texture& seen, const ResourceDescription& resource) {
    switch (resource.type) {
        case of_array: {
            const Array* array = array_of(resource.array);
            if (!array) return invalid_value;
            set_array(seen, *array);
            return success;
        }
        case of_linear_memory: {
            std::size_t element = element_bytes(resource.linear.format);
            std::size_t width = element ? resource.linear.bytes / element : 0;
            return set_memory(seen, resource.linear.memory, resource.linear.format, linear, width, 1, width * element);
        }
        case of_rows: {
            if (resource.rows.pitch % pitch_alignment) return invalid_value;
            return set_memory(seen, resource.rows.memory, resource.rows.format, two, resource.rows.width,
                              resource.rows.height, resource.rows.pitch);
        }
        case of_mipmapped_array: return not_supported;
        default: return invalid_value;
    }
}

}  // namespace

int array_create(std::intptr_t* out, const ChannelFormat& format, Extent extent, unsigned flags) {
    const unsigned known = layered | surface_load_store | cubemap | texture_gather, others = 0x20 | 0x40 | 0x80;
    if (flags & ~known) return flags & ~(known | others) ? invalid_value : not_supported;
    auto made = std::make_unique<Array>();
    Array& array = *made;
    array.format = format;
    array.extent = {extent.width, extent.height ? extent.height : 1, extent.depth ? extent.depth : 1};
    array.flags = flags;
    bool valid = extent.width && channels_of(format) && shape_of(extent, flags, &array.shape);
    if (!valid || (flags & texture_gather && array.shape != two)) return invalid_value;
    Extent most = largest(array.shape, flags);
    if (array.extent.width > most.width || array.extent.height > most.height || array.extent.depth > most.depth)
        return invalid_value;
    array.element = element_bytes(format);
    array.row = array.extent.width * array.element;
    array.slice = array.row * array.extent.height;
    void* memory = nullptr;
    if (int error = allocate(&memory, array.slice * array.extent.depth, Kind::device)) return error;
    array.memory = (char*)memory;
    *out = (std::intptr_t)made.get();
    arrays[*out] = std::move(made);
    return success;
}

// What is in the streams may still work with it: it is waited for.
int array_destroy(std::intptr_t handle) {
    if (!handle) return success;
    if (!array_of(handle)) return invalid_value;
    if (int error = run_all()) return error;
    forget_leaving();
    void* memory = array_of(handle)->memory;
    arrays.erase(handle);
    return release(memory, Kind::device);
}

int array_format(std::intptr_t handle, ChannelFormat* out) {
    const Array* array = array_of(handle);
    if (!array) return invalid_value;
    *out = array->format;
    return success;
}

int copy_to_array(std::intptr_t handle, std::size_t x, std::size_t y, const void* from, std::size_t pitch,
                  std::size_t width, std::size_t height, Direction direction, std::intptr_t stream,
                  bool asynchronous) {
    const Array* array = array_of(handle);
    Place to;
    if (!array || width > pitch) return invalid_value;
    if (int error = place_in(*array, x, y, 0, width, height, 1, &to)) return error;
    return copy_slices(to, {(char*)from, pitch, pitch * height}, width, height, 1, direction, stream, asynchronous);
}

int copy_from_array(void* to, std::size_t pitch, std::intptr_t handle, std::size_t x, std::size_t y, std::size_t width,
                    std::size_t height, Direction direction, std::intptr_t stream, bool asynchronous) {
    const Array* array = array_of(handle);
    Place from;
    if (!array || width > pitch) return invalid_value;
    if (int error = place_in(*array, x, y, 0, width, height, 1, &from)) return error;
    return copy_slices({(char*)to, pitch, pitch * height}, from, width, height, 1, direction, stream, asynchronous);
}

// Widths count elements of the array, where there is one.
int copy_box(const BoxCopy& copy, std::intptr_t stream, bool asynchronous) {
    const Array *from_array = array_of(copy.from_array), *to_array = array_of(copy.to_array);
    std::size_t element = from_array ? from_array->element : to_array ? to_array->element : 1;
    if (from_array && to_array && from_array->element != to_array->element) return invalid_value;
    std::size_t width = copy.extent.width * element;
    Place to, from;
    const Extent& box = copy.extent;
    if (int error = side_of_box(copy.from_array, copy.from_position, copy.from, width, box, &from)) return error;
    if (int error = side_of_box(copy.to_array, copy.to_position, copy.to, width, box, &to)) return error;
    return copy_slices(to, from, width, copy.extent.height, copy.extent.depth, (Direction)copy.direction, stream,
                       asynchronous);
}

int texture_create(std::uintmax_t* out, const ResourceDescription& resource, const TextureDescription& description) {
    auto object = std::make_unique<Object>();
    object->resource = resource;
    object->description = description;
    emulator::Texture& seen = object->seen;
    if (int error = set_resource(seen, resource)) return error;
    const TextureDescription& d = description;
    bool is_cube = seen.shape == cube || seen.shape == cube_layered, is_float = seen.kind == float_kind;
    auto flag = [](int value) { return value == 0 || value == 1; };
    if (!flag(d.filter_mode) || !flag(d.read_mode)) return invalid_value;
    if (d.is_srgb || d.most_anisotropy > 1 || (is_cube && d.seamless_cube)) return not_supported;
    if (d.read_mode && (is_float || seen.bits > 16)) return invalid_value;
    seen.normalized_float = d.read_mode;
    std::memcpy(seen.border, d.border, sizeof seen.border);
    if (seen.shape != linear) {  // where the rest is ignored
        if (d.filter_mode && !is_float && !d.read_mode) return invalid_value;
        seen.linear_filter = d.filter_mode;
        seen.normalized_coordinates = d.normalized_coordinates != 0;
        for (int i = 0; i < 3; i++) {
            int mode = d.address_modes[i];
            if (mode < wrap || mode > border) return invalid_value;
            if (is_cube && i < 2 && mode != clamp) return not_supported;
            bool needs_normalized = mode == wrap || mode == mirror;
            seen.address_modes[i] = needs_normalized && !d.normalized_coordinates ? (int)clamp : mode;
        }
    }
    return add(out, std::move(object));
}

int surface_create(std::uintmax_t* out, const ResourceDescription& resource) {
    const Array* array = resource.type == of_array ? array_of(resource.array) : nullptr;
    if (!array || !(array->flags & surface_load_store)) return invalid_value;
    auto object = std::make_unique<Object>();
    object->resource = resource;
    set_array(object->seen, *array);
    object->seen.is_surface = 1;
    return add(out, std::move(object));
}

int texture_destroy(std::uintmax_t handle, bool is_surface) {
    Object* object = object_of(handle, is_surface);
    if (!object) return invalid_value;
    object->leaving = true;
    leaving.push_back(handle);
    if (!settings.late) forget_leaving();
    return success;
}

int texture_describe(std::uintmax_t handle, ResourceDescription* resource, TextureDescription* description) {
    const Object* object = object_of(handle, false);
    if (!object) return invalid_value;
    if (resource) *resource = object->resource;
    if (description) *description = object->description;
    return success;
}

const emulator::Texture* const* textures() { return table(); }

}  // namespace gpunn_device
