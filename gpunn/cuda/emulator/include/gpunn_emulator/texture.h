// Textures and surfaces. What a fetch computes is in ../../runtime/texture.cpp.
#pragma once

typedef unsigned long long cudaTextureObject_t;
typedef unsigned long long cudaSurfaceObject_t;

enum cudaTextureAddressMode {
    cudaAddressModeWrap = 0,
    cudaAddressModeClamp = 1,
    cudaAddressModeMirror = 2,
    cudaAddressModeBorder = 3
};
enum cudaTextureFilterMode { cudaFilterModePoint = 0, cudaFilterModeLinear = 1 };
enum cudaTextureReadMode { cudaReadModeElementType = 0, cudaReadModeNormalizedFloat = 1 };
enum cudaSurfaceBoundaryMode { cudaBoundaryModeZero = 0, cudaBoundaryModeClamp = 1, cudaBoundaryModeTrap = 2 };

namespace gpunn_emulator {

// What a fetch may be asked for as. It has no member `type` for anything else, so that nothing matches the call.
template <class T> struct texel {};
// What a surface takes beside these: bytes that nobody interprets.
template <class T> struct surface_element : texel<T> {};

template <class Base> inline Base component(unsigned bits) { return (Base)bits; }
template <> inline float component<float>(unsigned bits) { return bit_cast<float>(bits); }

#define GPUNN_TEXEL(name, count, base, kind, ...)                                                        \
    template <> struct texel<name> {                                                                     \
        typedef name type;                                                                               \
        static constexpr TexelType described() { return TexelType{count, 8 * (int)sizeof(base), kind}; } \
        static type of(Texel bits) {                                                                     \
            (void)bits;                                                                                  \
            return {__VA_ARGS__};                                                                        \
        }                                                                                                \
    };
#define GPUNN_COMPONENT(base, member) component<base>(bits.member)
#define GPUNN_TEXELS(name, base, kind)                                                      \
    GPUNN_TEXEL(name##1, 1, base, kind, GPUNN_COMPONENT(base, x))                           \
    GPUNN_TEXEL(name##2, 2, base, kind, GPUNN_COMPONENT(base, x), GPUNN_COMPONENT(base, y)) \
    GPUNN_TEXEL(name##4, 4, base, kind, GPUNN_COMPONENT(base, x), GPUNN_COMPONENT(base, y), \
                GPUNN_COMPONENT(base, z), GPUNN_COMPONENT(base, w))
#define GPUNN_SCALAR_TEXEL(base, kind) GPUNN_TEXEL(base, 1, base, kind, GPUNN_COMPONENT(base, x))

GPUNN_SCALAR_TEXEL(char, TexelKind::signed_integer)
GPUNN_SCALAR_TEXEL(signed char, TexelKind::signed_integer)
GPUNN_SCALAR_TEXEL(short, TexelKind::signed_integer)
GPUNN_SCALAR_TEXEL(int, TexelKind::signed_integer)
GPUNN_SCALAR_TEXEL(unsigned char, TexelKind::unsigned_integer)
GPUNN_SCALAR_TEXEL(unsigned short, TexelKind::unsigned_integer)
GPUNN_SCALAR_TEXEL(unsigned int, TexelKind::unsigned_integer)
GPUNN_SCALAR_TEXEL(float, TexelKind::floating_point)
GPUNN_TEXELS(char, signed char, TexelKind::signed_integer)
GPUNN_TEXELS(short, short, TexelKind::signed_integer)
GPUNN_TEXELS(int, int, TexelKind::signed_integer)
GPUNN_TEXELS(uchar, unsigned char, TexelKind::unsigned_integer)
GPUNN_TEXELS(ushort, unsigned short, TexelKind::unsigned_integer)
GPUNN_TEXELS(uint, unsigned int, TexelKind::unsigned_integer)
GPUNN_TEXELS(float, float, TexelKind::floating_point)

#define GPUNN_SURFACE_ELEMENT(name) \
    template <> struct surface_element<name> { typedef name type; };
GPUNN_SURFACE_ELEMENT(long long)
GPUNN_SURFACE_ELEMENT(longlong1)
GPUNN_SURFACE_ELEMENT(longlong2)
GPUNN_SURFACE_ELEMENT(unsigned long long)
GPUNN_SURFACE_ELEMENT(ulonglong1)
GPUNN_SURFACE_ELEMENT(ulonglong2)

}  // namespace gpunn_emulator

#define GPUNN_LIST(...) __VA_ARGS__

// Each function returns what it fetches, or stores it.
#define GPUNN_TEXTURE(name, parameters, arguments, fetched)                                   \
    template <class T>                                                                        \
    __forceinline__ typename gpunn_emulator::texel<T>::type name(cudaTextureObject_t texture, \
                                                                 GPUNN_LIST parameters) {     \
        using namespace gpunn_emulator;                                                       \
        return texel<T>::of(fetched);                                                         \
    }                                                                                         \
    template <class T>                                                                        \
    __forceinline__ void name(T* out, cudaTextureObject_t texture, GPUNN_LIST parameters) {   \
        *out = name<T>(texture, GPUNN_LIST arguments);                                        \
    }

// A level, or the derivatives that one follows from, choose from a mipmap; here there is but one to choose.
#define GPUNN_FILTERED(name, shape, parameters, arguments, derivative, x, y, z, layer)                     \
    GPUNN_TEXTURE(name, (GPUNN_LIST parameters), (GPUNN_LIST arguments),                                   \
                  fetch(#name, texture, TextureShape::shape, x, y, z, layer, texel<T>::described()))       \
    GPUNN_TEXTURE(name##Lod, (GPUNN_LIST parameters, float level), (GPUNN_LIST arguments, level),          \
                  fetch(#name "Lod", texture, TextureShape::shape, x, y, z, layer, texel<T>::described())) \
    GPUNN_TEXTURE(name##Grad, (GPUNN_LIST parameters, derivative dx, derivative dy),                       \
                  (GPUNN_LIST arguments, dx, dy),                                                          \
                  fetch(#name "Grad", texture, TextureShape::shape, x, y, z, layer, texel<T>::described()))

GPUNN_TEXTURE(tex1Dfetch, (int x), (x), fetch_linear(texture, x, texel<T>::described()))
GPUNN_FILTERED(tex1D, one, (float x), (x), float, x, 0, 0, 0)
GPUNN_FILTERED(tex2D, two, (float x, float y), (x, y), float2, x, y, 0, 0)
GPUNN_FILTERED(tex3D, three, (float x, float y, float z), (x, y, z), float4, x, y, z, 0)
GPUNN_FILTERED(tex1DLayered, one_layered, (float x, int layer), (x, layer), float, x, 0, 0, layer)
GPUNN_FILTERED(tex2DLayered, two_layered, (float x, float y, int layer), (x, y, layer), float2, x, y, 0, layer)
GPUNN_FILTERED(texCubemap, cube, (float x, float y, float z), (x, y, z), float4, x, y, z, 0)
GPUNN_FILTERED(texCubemapLayered, cube_layered, (float x, float y, float z, int layer), (x, y, z, layer), float4, x,
               y, z, layer)

template <class T>
__forceinline__ typename gpunn_emulator::texel<T>::type tex2Dgather(cudaTextureObject_t texture, float x, float y,
                                                                    int component = 0) {
    typedef gpunn_emulator::texel<T> texel;
    static_assert(texel::described().channels == 4, "tex2Dgather returns four numbers: ask for a type of four");
    return texel::of(gpunn_emulator::gather(texture, x, y, component, texel::described()));
}
template <class T>
__forceinline__ void tex2Dgather(T* out, cudaTextureObject_t texture, float x, float y, int component = 0) {
    *out = tex2Dgather<T>(texture, x, y, component);
}

// Surfaces count x in bytes, and their rows begin anywhere. Where an access beyond the edge is left out, there is no
// address.
#define GPUNN_SURFACE(name, shape, parameters, arguments, x, y, z)                                                 \
    template <class T>                                                                                             \
    __forceinline__ typename gpunn_emulator::surface_element<T>::type name##read(                                  \
        cudaSurfaceObject_t surface, GPUNN_LIST parameters, cudaSurfaceBoundaryMode mode = cudaBoundaryModeTrap) { \
        const void* address = gpunn_emulator::surface_address(                                                     \
            #name "read", surface, gpunn_emulator::TextureShape::shape, x, y, z, sizeof(T), mode, false);          \
        T value = T();                                                                                             \
        if (address) __builtin_memcpy(&value, address, sizeof value);                                              \
        return value;                                                                                              \
    }                                                                                                              \
    template <class T, class = typename gpunn_emulator::surface_element<T>::type>                                  \
    __forceinline__ void name##read(T* out, cudaSurfaceObject_t surface, GPUNN_LIST parameters,                    \
                                    cudaSurfaceBoundaryMode mode = cudaBoundaryModeTrap) {                         \
        *out = name##read<T>(surface, GPUNN_LIST arguments, mode);                                                 \
    }                                                                                                              \
    template <class T, class = typename gpunn_emulator::surface_element<T>::type>                                  \
    __forceinline__ void name##write(T value, cudaSurfaceObject_t surface, GPUNN_LIST parameters,                  \
                                     cudaSurfaceBoundaryMode mode = cudaBoundaryModeTrap) {                        \
        void* address = gpunn_emulator::surface_address(                                                           \
            #name "write", surface, gpunn_emulator::TextureShape::shape, x, y, z, sizeof(T), mode, true);          \
        if (address) __builtin_memcpy(address, &value, sizeof value);                                              \
    }

GPUNN_SURFACE(surf1D, one, (int x), (x), x, 0, 0)
GPUNN_SURFACE(surf2D, two, (int x, int y), (x, y), x, y, 0)
GPUNN_SURFACE(surf3D, three, (int x, int y, int z), (x, y, z), x, y, z)
GPUNN_SURFACE(surf1DLayered, one_layered, (int x, int layer), (x, layer), x, 0, layer)
GPUNN_SURFACE(surf2DLayered, two_layered, (int x, int y, int layer), (x, y, layer), x, y, layer)
GPUNN_SURFACE(surfCubemap, cube, (int x, int y, int face), (x, y, face), x, y, face)
GPUNN_SURFACE(surfCubemapLayered, cube_layered, (int x, int y, int layer_and_face), (x, y, layer_and_face), x, y,
              layer_and_face)
