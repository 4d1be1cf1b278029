// What a fetch from a texture and an access to a surface compute, after the CUDA programming guide ("Texture
// Fetching"). It leaves open how coordinates meet the edge while texels are filtered: here, as in graphics, an address
// mode changes the index of each texel, not the coordinate.
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "worker.h"
#include "../include/gpunn_emulator/traits.h"
#include "../include/gpunn_emulator/half_bits.h"
#ifdef GPUNN_EMULATOR_CHECK
#include "checker.h"
#endif

namespace gpunn_emulator {

namespace {

enum AddressMode { wrap, clamp, mirror, border };
enum BoundaryMode { zero, nearest, trap_outside };

const char* const shape_names[] = {"linear",     "1d",         "2d",   "3d",
                                   "1d-layered", "2d-layered", "cube", "cube-layered"};
const std::int64_t outside = -1;
const double weight_steps = 256;  // a weight of the filter has 8 bits after the point
const std::int64_t faces = 6;

[[noreturn]] __attribute__((format(printf, 3, 4))) void fail(Kind kind, const void* pc, const char* format, ...) {
    Report report = worker->describe(kind, pc);
    va_list values;
    va_start(values, format);
    std::vsnprintf(report.message, sizeof report.message, format, values);
    va_end(values);
    worker->fail(report);
}

// --- handles ---------------------------------------------------------------------------------------------

const Texture& find(const char* function, std::uint64_t handle, TextureShape shape, bool surface, const void* pc) {
    worker->leave_if_asked();
    const Texture* const* textures = worker->request().textures;
    const Texture* found = textures ? textures[handle % texture_slots] : nullptr;
    const char* wanted = surface ? "surface" : "texture";
    if (!found || found->handle != handle)
        fail(Kind::texture, pc, "%s of %#llx, which is the handle of no %s", function, (unsigned long long)handle,
             wanted);
    if ((bool)found->is_surface != surface)
        fail(Kind::texture, pc, "%s of a %s, it takes a %s", function, surface ? "texture" : "surface", wanted);
    if (found->shape != (int)shape)
        fail(Kind::texture, pc, "%s of a %s of kind \"%s\", it takes \"%s\"", function, wanted,
             shape_names[found->shape], shape_names[(int)shape]);
    return *found;
}

bool returns_float(const Texture& t) { return t.normalized_float || t.kind == (int)TexelKind::floating_point; }

TexelType type_of(const Texture& t) {
    if (returns_float(t)) return {t.channels, 32, TexelKind::floating_point};
    return {t.channels, t.bits, (TexelKind)t.kind};
}

void check_type(const char* function, const Texture& t, TexelType wanted, const void* pc) {
    const char* const kinds[] = {"int", "uint", "float"};
    TexelType has = type_of(t);
    if (wanted.channels == has.channels && wanted.bits == has.bits && wanted.kind == has.kind) return;
    fail(Kind::texture, pc, "%s asks for %d of %s%d, but what the texture returns is %d of %s%d", function,
         wanted.channels, kinds[(int)wanted.kind], wanted.bits, has.channels, kinds[(int)has.kind], has.bits);
}

// --- texels ----------------------------------------------------------------------------------------------

std::size_t element_bytes(const Texture& t) { return (std::size_t)(t.channels * t.bits / 8); }

char* address_of(const Texture& t, std::int64_t x, std::int64_t y, std::int64_t z) {
    return t.memory + (std::size_t)z * t.slice_pitch + (std::size_t)y * t.row_pitch + (std::size_t)x * element_bytes(t);
}

template <class T> T load(const char* address) {
    T value;
    std::memcpy(&value, address, sizeof value);
    return value;
}

// One number of an element, as a fetch returns it when nothing is filtered.
unsigned channel(const Texture& t, const char* element, int c) {
    const char* address = element + c * t.bits / 8;
    if (t.kind == (int)TexelKind::floating_point && t.bits == 32) return load<unsigned>(address);
    if (t.kind == (int)TexelKind::floating_point)
        return bit_cast<unsigned>(half_to_float(load<unsigned short>(address)));
    bool is_signed = t.kind == (int)TexelKind::signed_integer;
    std::int64_t value = t.bits == 8    ? (is_signed ? load<signed char>(address) : load<unsigned char>(address))
                         : t.bits == 16 ? (is_signed ? load<short>(address) : load<unsigned short>(address))
                                        : load<int>(address);
    if (!t.normalized_float) return (unsigned)value;
    double largest = (double)((1 << (is_signed ? t.bits - 1 : t.bits)) - 1);
    return bit_cast<unsigned>((float)std::fmax((double)value / largest, -1.0));
}

void channels_of(const Texture& t, std::int64_t x, std::int64_t y, std::int64_t z, unsigned* out, const void* pc) {
    if (x == outside || y == outside || z == outside) {
        std::memcpy(out, t.border, sizeof t.border);
        return;
    }
    const char* element = address_of(t, x, y, z);
#ifdef GPUNN_EMULATOR_CHECK
    checker.fetch(element, element_bytes(t), pc);
#else
    (void)pc;
#endif
    for (int c = 0; c < t.channels; c++) out[c] = channel(t, element, c);
}

// --- coordinates -----------------------------------------------------------------------------------------

// Which texels a coordinate asks for along one axis, and how they are weighed.
struct Axis {
    std::int64_t index[2];
    double weight[2];
    int count;
};

std::int64_t addressed(std::int64_t i, std::int64_t size, int mode) {
    if (mode == wrap) return (i % size + size) % size;
    if (mode == mirror) {
        std::int64_t in_period = (i % (2 * size) + 2 * size) % (2 * size);
        return in_period < size ? in_period : 2 * size - 1 - in_period;
    }
    if (i >= 0 && i < size) return i;
    return mode == border ? outside : i < 0 ? 0 : size - 1;
}

// The coordinate in texels, near enough to the texture that its integer part is a number.
double in_texels(const char* function, double x, unsigned size, int mode, bool normalized, const void* pc) {
    if (mode == wrap) x -= std::floor(x);
    if (mode == mirror) x -= 2 * std::floor(x / 2);
    if (std::isnan(x)) fail(Kind::texture, pc, "%s at a coordinate that is no number", function);
    if (normalized) x *= size;
    return std::fmin(std::fmax(x, -2.0), 2.0 * size + 2.0);
}

Axis along(const char* function, const Texture& t, double x, unsigned size, int mode, bool normalized, const void* pc) {
    x = in_texels(function, x, size, mode, normalized, pc);
    if (!t.linear_filter) return {{addressed((std::int64_t)std::floor(x), size, mode), 0}, {1, 0}, 1};
    double from_center = x - 0.5, first = std::floor(from_center);
    double weight = std::floor((from_center - first) * weight_steps + 0.5) / weight_steps;
    std::int64_t i = (std::int64_t)first;
    return {{addressed(i, size, mode), addressed(i + 1, size, mode)}, {1 - weight, weight}, 2};
}

const Axis whole = {{0, 0}, {1, 0}, 1};

Axis slice(std::int64_t z) { return {{z, 0}, {1, 0}, 1}; }

// The face that a direction points to, and where: from 0 to 1.
struct OnCube {
    int face;
    double x, y;
};

OnCube on_cube(const char* function, double x, double y, double z, const void* pc) {
    double ax = std::fabs(x), ay = std::fabs(y), az = std::fabs(z), longest = std::fmax(std::fmax(ax, ay), az);
    if (!(longest > 0 && std::isfinite(ax + ay + az)))
        fail(Kind::texture, pc, "%s in the direction (%g, %g, %g)", function, x, y, z);
    auto at = [longest](int face, double s, double t) {
        return OnCube{face, (s / longest + 1) / 2, (t / longest + 1) / 2};
    };
    if (az == longest) return z > 0 ? at(4, x, -y) : at(5, -x, -y);
    if (ay == longest) return y > 0 ? at(2, x, z) : at(3, x, -z);
    return x > 0 ? at(0, -z, -y) : at(1, z, -y);
}

// --- fetches ---------------------------------------------------------------------------------------------

Texel as_texel(const unsigned* words) { return {words[0], words[1], words[2], words[3]}; }

// The sum of the texels, each times its weights. The products are exact: a float has 24 bits, that of three weights 24
// more.
Texel filtered(const Texture& t, const Axis& x, const Axis& y, const Axis& z, const void* pc) {
    unsigned words[4] = {};
    if (!t.linear_filter) {
        channels_of(t, x.index[0], y.index[0], z.index[0], words, pc);
        return as_texel(words);
    }
    double sums[4] = {};
    for (int k = 0; k < z.count; k++)
        for (int j = 0; j < y.count; j++)
            for (int i = 0; i < x.count; i++) {
                channels_of(t, x.index[i], y.index[j], z.index[k], words, pc);
                double weight = x.weight[i] * y.weight[j] * z.weight[k];
                for (int c = 0; c < t.channels; c++) sums[c] += weight * (double)bit_cast<float>(words[c]);
            }
    for (int c = 0; c < t.channels; c++) words[c] = bit_cast<unsigned>((float)sums[c]);
    return as_texel(words);
}

void check_layer(const char* function, std::int64_t layer, std::int64_t layers, const char* what, const void* pc) {
    if (layer >= 0 && layer < layers) return;
    fail(Kind::out_of_bounds, pc, "%s of %s %lld, there are %lld", function, what, (long long)layer, (long long)layers);
}

}  // namespace

Texel fetch_linear(unsigned long long texture, int x, TexelType wanted) {
    const void* pc = __builtin_return_address(0);
    const Texture& t = find("tex1Dfetch", texture, TextureShape::linear, false, pc);
    check_type("tex1Dfetch", t, wanted, pc);
    unsigned words[4] = {};
    if (x >= 0 && (unsigned)x < t.width) {
        channels_of(t, x, 0, 0, words, pc);
        return as_texel(words);
    }
    // Hardware returns zeros; of NVIDIA's manuals one says that the address mode counts, the other that it does not.
#ifdef GPUNN_EMULATOR_CHECK
    fail(Kind::out_of_bounds, pc, "tex1Dfetch of element %d of a texture that has %u", x, t.width);
#endif
    return as_texel(words);
}

Texel fetch(const char* function, unsigned long long texture, TextureShape shape, float x, float y, float z, int layer,
            TexelType wanted) {
    const void* pc = __builtin_return_address(0);
    const Texture& t = find(function, texture, shape, false, pc);
    check_type(function, t, wanted, pc);
    auto axis = [&](double coordinate, unsigned size, int number) {
        return along(function, t, coordinate, size, t.address_modes[number], t.normalized_coordinates, pc);
    };
    switch (shape) {
    case TextureShape::cube:
    case TextureShape::cube_layered: {
        check_layer(function, layer, t.depth / faces, "layer", pc);
        OnCube place = on_cube(function, x, y, z, pc);
        return filtered(t, along(function, t, place.x, t.width, clamp, true, pc),
                        along(function, t, place.y, t.height, clamp, true, pc), slice(layer * faces + place.face), pc);
    }
    case TextureShape::one_layered:
    case TextureShape::two_layered:
        check_layer(function, layer, t.depth, "layer", pc);
        return filtered(t, axis(x, t.width, 0), shape == TextureShape::two_layered ? axis(y, t.height, 1) : whole,
                        slice(layer), pc);
    case TextureShape::one: return filtered(t, axis(x, t.width, 0), whole, whole, pc);
    case TextureShape::two: return filtered(t, axis(x, t.width, 0), axis(y, t.height, 1), whole, pc);
    default: return filtered(t, axis(x, t.width, 0), axis(y, t.height, 1), axis(z, t.depth, 2), pc);
    }
}

// One channel of the four texels that a filter would weigh, against the clock from the lower left one. Here the place,
// and not its weight, is rounded to 8 bits after the point.
Texel gather(unsigned long long texture, float x, float y, int channel, TexelType wanted) {
    const void* pc = __builtin_return_address(0);
    const char* function = "tex2Dgather";
    const Texture& t = find(function, texture, TextureShape::two, false, pc);
    if (!t.may_gather)
        fail(Kind::texture, pc, "tex2Dgather of memory that is no CUDA array made with cudaArrayTextureGather");
    if (channel < 0 || channel >= t.channels)
        fail(Kind::texture, pc, "tex2Dgather of channel %d of a texture that has %d", channel, t.channels);
    wanted.channels = t.channels;
    check_type(function, t, wanted, pc);
    auto first = [&](double coordinate, unsigned size, int number) {
        double place = in_texels(function, coordinate, size, t.address_modes[number], t.normalized_coordinates, pc);
        return (std::int64_t)std::floor(std::floor((place - 0.5) * weight_steps + 0.5) / weight_steps);
    };
    std::int64_t left = first(x, t.width, 0), upper = first(y, t.height, 1);
    auto texel = [&](std::int64_t i, std::int64_t j) {
        unsigned words[4] = {};
        channels_of(t, addressed(i, t.width, t.address_modes[0]), addressed(j, t.height, t.address_modes[1]), 0, words,
                    pc);
        return words[channel];
    };
    return {texel(left, upper + 1), texel(left + 1, upper + 1), texel(left + 1, upper), texel(left, upper)};
}

// --- surfaces --------------------------------------------------------------------------------------------

void* surface_address(const char* function, unsigned long long surface, TextureShape shape, int x, int y, int z,
                      size_t bytes, int boundary_mode, bool write) {
    const void* pc = __builtin_return_address(0);
    const Texture& t = find(function, surface, shape, true, pc);
    std::int64_t row = (std::int64_t)(t.width * element_bytes(t)), size = (std::int64_t)bytes;
    if (x % size)
        fail(Kind::misaligned, pc, "%s at byte x = %d, which is not a multiple of the %lld bytes it moves", function,
             x, (long long)size);
    if (shape != TextureShape::three) {
        bool has_faces = shape == TextureShape::cube || shape == TextureShape::cube_layered;
        check_layer(function, z, t.depth, has_faces ? "face" : "layer", pc);
    }
    auto beyond = [](std::int64_t i, std::int64_t length) { return i < 0 || i >= length; };
    if (x < 0 || x + size > row || beyond(y, t.height) || beyond(z, t.depth)) {
        if (boundary_mode == zero) return nullptr;
        if (boundary_mode == trap_outside)
            fail(Kind::out_of_bounds, pc, "%s of %lld bytes at (%d, %d, %d): a surface of %lld bytes x %u x %u",
                 function, (long long)size, x, y, z, (long long)row, t.height, t.depth);
        auto clamped = [](std::int64_t i, std::int64_t last) { return i < 0 ? 0 : i > last ? last : i; };
        if (row < size)
            fail(Kind::out_of_bounds, pc, "%s of %lld bytes: a row of the surface has %lld", function, (long long)size,
                 (long long)row);
        x = (int)clamped(x, (row - size) / size * size);
        y = (int)clamped(y, t.height - 1);
        z = (int)clamped(z, t.depth - 1);
    }
    char* address = address_of(t, 0, y, z) + x;
#ifdef GPUNN_EMULATOR_CHECK
    if (!write) checker.check_coherent(address, bytes, pc);
#else
    (void)write;
#endif
    return address;
}

}  // namespace gpunn_emulator
