"""Textures and surfaces: each function against NumPy, to the bit, and what is refused or reported."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule, SurfaceObject, TextureObject, reachable
from gpunn.errors import ArgumentError, CompileError, LaunchError

f32, i32 = np.float32, np.int32

KERNELS = r"""
__device__ int number() { return blockIdx.x * blockDim.x + threadIdx.x; }

extern "C" __global__ void at_1d(cudaTextureObject_t t, const float* x, float* out, int n) {
    int i = number();
    if (i < n) out[i] = tex1D<float>(t, x[i]);
}
extern "C" __global__ void at_2d(cudaTextureObject_t t, const float2* x, float* out, int n) {
    int i = number();
    if (i < n) out[i] = tex2D<float>(t, x[i].x, x[i].y);
}
extern "C" __global__ void at_3d(cudaTextureObject_t t, const float3* x, float* out, int n) {
    int i = number();
    if (i < n) tex3D(out + i, t, x[i].x, x[i].y, x[i].z);
}
extern "C" __global__ void at_cube(cudaTextureObject_t t, const float3* x, float* out, int n) {
    int i = number();
    if (i < n) out[i] = texCubemap<float>(t, x[i].x, x[i].y, x[i].z);
}

// Every element type: from a texture, through both forms of the call, to a surface, and back from there.
template <class T> __global__ void copy_2d(cudaTextureObject_t t, cudaSurfaceObject_t s, T* out) {
    int x = threadIdx.x, y = threadIdx.y;
    T texel;
    tex2D(&texel, t, (float)x, (float)y);
    out[y * blockDim.x + x] = tex2D<T>(t, x + 0.5f, y + 0.5f);
    surf2Dwrite(texel, s, x * (int)sizeof(T), y);
}

// One kernel for all levels, derivatives and layers; T[i] is what the i-th function fetches.
extern "C" __global__ void others(cudaTextureObject_t linear, cudaTextureObject_t one, cudaTextureObject_t two,
                                  cudaTextureObject_t three, cudaTextureObject_t one_layered,
                                  cudaTextureObject_t two_layered, cudaTextureObject_t cube,
                                  cudaTextureObject_t cube_layered, float* out) {
    float4 none = make_float4(0, 0, 0, 0);
    float2 flat = make_float2(0, 0);
    int i = 0;
    out[i++] = tex1Dfetch<float>(linear, 3);
    out[i++] = tex1DLod<float>(one, 2.5f, 0);
    out[i++] = tex1DGrad<float>(one, 2.5f, 0, 0);
    out[i++] = tex2DLod<float>(two, 2.5f, 1.5f, 0);
    out[i++] = tex2DGrad<float>(two, 2.5f, 1.5f, flat, flat);
    out[i++] = tex3DLod<float>(three, 2.5f, 1.5f, 0.5f, 0);
    out[i++] = tex3DGrad<float>(three, 2.5f, 1.5f, 0.5f, none, none);
    out[i++] = tex1DLayered<float>(one_layered, 2.5f, 1);
    out[i++] = tex1DLayeredLod<float>(one_layered, 2.5f, 1, 0);
    out[i++] = tex1DLayeredGrad<float>(one_layered, 2.5f, 1, 0, 0);
    out[i++] = tex2DLayered<float>(two_layered, 2.5f, 1.5f, 1);
    out[i++] = tex2DLayeredLod<float>(two_layered, 2.5f, 1.5f, 1, 0);
    out[i++] = tex2DLayeredGrad<float>(two_layered, 2.5f, 1.5f, 1, flat, flat);
    out[i++] = texCubemapLod<float>(cube, 0.1f, -1.0f, 0.4f, 0);
    out[i++] = texCubemapGrad<float>(cube, 0.1f, -1.0f, 0.4f, none, none);
    out[i++] = texCubemapLayered<float>(cube_layered, 0.1f, -1.0f, 0.4f, 1);
    out[i++] = texCubemapLayeredLod<float>(cube_layered, 0.1f, -1.0f, 0.4f, 1, 0);
    out[i++] = texCubemapLayeredGrad<float>(cube_layered, 0.1f, -1.0f, 0.4f, 1, none, none);
}

extern "C" __global__ void gather(cudaTextureObject_t t, const float2* x, int channel, int4* out, int n) {
    int i = number();
    if (i < n) out[i] = tex2Dgather<int4>(t, x[i].x, x[i].y, channel);
}

// Each thread moves one element of a surface of three, into one where it is the other way round.
extern "C" __global__ void surfaces(cudaSurfaceObject_t one, cudaSurfaceObject_t three, cudaSurfaceObject_t one_layered,
                                    cudaSurfaceObject_t two_layered, cudaSurfaceObject_t cube,
                                    cudaSurfaceObject_t cube_layered, int* out) {
    int x = threadIdx.x;
    out[x] = surf1Dread<int>(one, 4 * x);
    surf3Dread(out + 3 + x, three, 4 * x, 1, 1);
    out[6 + x] = surf1DLayeredread<int>(one_layered, 4 * x, 1);
    out[9 + x] = surf2DLayeredread<int>(two_layered, 4 * x, 1, 1);
    out[12 + x] = surfCubemapread<int>(cube, 4 * x, 1, 5);
    out[15 + x] = surfCubemapLayeredread<int>(cube_layered, 4 * x, 1, 7);
    __syncthreads();
    surf1Dwrite(x, one, 4 * x);
    surf3Dwrite(x, three, 4 * x, 1, 1);
    surf1DLayeredwrite(x, one_layered, 4 * x, 1);
    surf2DLayeredwrite(x, two_layered, 4 * x, 1, 1);
    surfCubemapwrite(x, cube, 4 * x, 1, 5);
    surfCubemapLayeredwrite(x, cube_layered, 4 * x, 1, 7);
}

// Reads beyond the edges, and writes where nobody has read.
extern "C" __global__ void beyond(cudaSurfaceObject_t from, cudaSurfaceObject_t to, int* out) {
    out[0] = surf2Dread<int>(from, -4, 0, cudaBoundaryModeZero);
    out[1] = surf2Dread<int>(from, -4, 9, cudaBoundaryModeClamp);
    out[2] = surf2Dread<int>(from, 400, -1, cudaBoundaryModeClamp);
    short4 pair = surf2Dread<short4>(from, 400, 0, cudaBoundaryModeClamp);  // 8 of the 12 bytes of a row
    out[3] = pair.z;
    surf2Dwrite(100, to, 12, 0, cudaBoundaryModeZero);
    surf2Dwrite(200, to, 0, -1, cudaBoundaryModeClamp);
    surf2Dwrite(300ll << 32, to, 800, 700, cudaBoundaryModeClamp);
}

extern "C" __global__ void trapped(cudaSurfaceObject_t s, int x, int y) {
    surf2Dwrite(1, s, x, y);
}
extern "C" __global__ void mixed(unsigned long long handle, int* out) {
    *out = tex2D<int>(handle, 0, 0);
}
extern "C" __global__ void layer(cudaTextureObject_t t, int number, float* out) {
    *out = tex1DLayered<float>(t, 0, number);
}
extern "C" __global__ void at_linear(cudaTextureObject_t t, int i, float* out) {
    *out = tex1Dfetch<float>(t, i);
}

struct Scene {
    cudaTextureObject_t image;
    float x;
};
extern "C" __global__ void in_struct(Scene scene, float* out) {
    out[threadIdx.x] = tex1D<float>(scene.image, scene.x + threadIdx.x);
}

extern "C" __global__ void stale(cudaTextureObject_t t, float* memory, float* out) {
    memory[threadIdx.x] = 1;
    out[threadIdx.x] = tex1D<float>(t, threadIdx.x);
}
extern "C" __global__ void stale_surface(cudaSurfaceObject_t s, int* out) {
    surf1Dwrite(7, s, 4 * threadIdx.x);
    out[threadIdx.x] = surf1Dread<int>(s, 4 * threadIdx.x);
}
extern "C" __global__ void colliding(cudaSurfaceObject_t s) {
    surf1Dwrite((int)threadIdx.x, s, 0);
}
"""

SCALARS = {
    "char": np.int8, "uchar": np.uint8, "short": np.int16, "ushort": np.uint16, "int": i32, "uint": np.uint32,
    "float": f32,
}  # fmt: skip
SPELT = {"uchar": "unsigned char", "ushort": "unsigned short", "uint": "unsigned int"}
TYPES = [(SPELT.get(name, name), dtype, 1) for name, dtype in SCALARS.items()]
TYPES += [(f"{name}{n}", dtype, n) for name, dtype in SCALARS.items() for n in (1, 2, 4)]
TYPES += [("signed char", np.int8, 1)]
NAMES = tuple(f"copy_2d<{name}>" for name, _, _ in TYPES)

MODES = [
    {"check": False},
    {"check": False, "order": "reverse"},
    {"check": False, "order": 3},
    {"check": True},
    {"check": True, "order": 3},
]


@pytest.fixture(scope="module", params=MODES, ids=str)
def kernels(request):
    return RawModule(KERNELS, name_expressions=NAMES, filename="k.cu", **request.param)


@pytest.fixture(scope="module", params=[False, True], ids=["fast", "check"])
def either(request):
    return RawModule(KERNELS, name_expressions=NAMES, filename="k.cu", check=request.param)


@pytest.fixture(scope="module")
def checked():
    return RawModule(KERNELS, name_expressions=NAMES, filename="k.cu", check=True)


def line(text):
    return 1 + KERNELS[: KERNELS.index(text)].count("\n")


def fetched(kernels, name, texture, points, returns=f32):
    points = np.ascontiguousarray(points, f32)
    out = np.zeros(len(points), returns)
    kernels.get_function(name)((-(-len(points) // 64),), (64,), (texture, points, out, i32(len(points))))
    return out


# --- what a fetch is, in NumPy ----------------------------------------------------------------------------------------


def index(i, n, mode):
    """The texel that stands for the one at `i`, or -1: the border."""
    if mode == "wrap":
        return i % n
    if mode == "mirror":
        return np.where(i % (2 * n) < n, i % (2 * n), 2 * n - 1 - i % (2 * n))
    return np.clip(i, 0, n - 1) if mode == "clamp" else np.where((i >= 0) & (i < n), i, -1)


def expected(array, points, modes, linear=False, normalized=False, border=0.0):
    """`points` have x first, and the axes of `array` x last. The sum is exact in float64, until it is rounded."""
    chosen = []
    for x, n, mode in zip(points.astype(f32).T.astype(np.float64), array.shape[::-1], modes, strict=True):
        x = x * n if normalized else x
        if linear:
            below = np.floor(x - 0.5)
            a = np.floor(256 * (x - 0.5 - below) + 0.5) / 256
            chosen.append([(index(below.astype(int), n, mode), 1 - a), (index(below.astype(int) + 1, n, mode), a)])
        else:
            chosen.append([(index(np.floor(x).astype(int), n, mode), 1.0)])
    total = np.zeros(len(points))
    for corner in itertools.product(*chosen[::-1]):
        indices = [i for i, _ in corner]
        inside = np.all([i >= 0 for i in indices], 0)
        values = np.where(inside, array[tuple(np.maximum(i, 0) for i in indices)].astype(np.float64), border)
        total += values * np.prod([w + np.zeros(len(points)) for _, w in corner], 0)
    return total.astype(f32)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("filter_mode", ["point", "linear"])
@pytest.mark.parametrize(
    ("modes", "normalized"),
    [
        (("clamp", "clamp", "clamp"), False),
        (("border", "clamp", "border"), False),
        (("wrap", "mirror", "clamp"), True),
        (("mirror", "border", "wrap"), True),
    ],
)
def test_fetches_are_those_of_the_formula(kernels, dimensions, filter_mode, modes, normalized):
    rng = np.random.default_rng(dimensions)
    sizes = (7, 5, 4)[:dimensions]  # of x, y, z
    array = rng.standard_normal(sizes[::-1]).astype(f32)
    points = rng.uniform(-1.6, 2.7, (300, dimensions)) * (1 if normalized else sizes)
    points[:80] = rng.integers(-16, 32, (80, dimensions)) / 8 * (1 if normalized else sizes)  # edges among them
    texture = TextureObject(
        array,
        address_mode=modes[:dimensions],
        filter_mode=filter_mode,
        normalized_coords=normalized,
        border_color=[2.5],
    )
    linear = filter_mode == "linear"
    wanted = expected(array, points, modes[:dimensions], linear, normalized, border=2.5)
    np.testing.assert_array_equal(fetched(kernels, f"at_{dimensions}d", texture, points), wanted)


def test_weights_have_eight_bits_and_reach_one(kernels):
    texture = TextureObject(np.array([0, 1], f32), filter_mode="linear")
    x = 0.5 + np.array([0.0, 0.49, 0.5, 0.51, 1.0, 255.4, 255.6]) / 256
    wanted = np.array([0, 0, 1, 1, 1, 255, 256], f32) / 256
    np.testing.assert_array_equal(fetched(kernels, "at_1d", texture, x), wanted)


def test_far_coordinates_stay_on_the_edge(kernels):
    far = np.array([-np.inf, -1e38, 1e38, np.inf])
    texture = TextureObject(np.array([3, 4], f32), filter_mode="linear")
    np.testing.assert_array_equal(fetched(kernels, "at_1d", texture, far), [3, 3, 4, 4])
    wrapped = TextureObject(np.array([3, 4], f32), address_mode="wrap", normalized_coords=True)
    np.testing.assert_array_equal(fetched(kernels, "at_1d", wrapped, [-1e38, 1e38, 1e9]), [3, 3, 3])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
def test_normalized_floats(kernels, dtype):
    info = np.iinfo(dtype)
    array = np.array([info.min, info.min + 1, 0, 1, 100, info.max], dtype)
    points = np.arange(6)
    as_float = np.maximum(array / np.float64(info.max), -1).astype(f32)
    texture = TextureObject(array, read_mode="normalized_float")
    np.testing.assert_array_equal(fetched(kernels, "at_1d", texture, points), as_float)
    smooth = TextureObject(
        array, read_mode="normalized_float", filter_mode="linear", address_mode="border", border_color=(0.25,)
    )
    x = np.linspace(-1, 8, 50)
    wanted = expected(as_float, x[:, None], ["border"], linear=True, border=0.25)
    np.testing.assert_array_equal(fetched(kernels, "at_1d", smooth, x), wanted)


def test_half_precision_is_fetched_as_float(kernels):
    array = np.array([1.5, -2.0, 65504, 2.0**-24, np.inf, 0.1], np.float16)
    out = fetched(kernels, "at_1d", TextureObject(array), np.arange(6))
    np.testing.assert_array_equal(out, array.astype(f32))


@pytest.mark.parametrize(("name", "dtype", "channels"), TYPES)
def test_every_type_through_texture_and_surface(kernels, name, dtype, channels):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (3, 5, channels * dtype().itemsize), np.uint8).view(dtype)
    copied = np.zeros_like(array)
    if dtype is f32:
        array[:] = rng.standard_normal(array.shape)
    if channels == 1:
        array, copied = array[..., 0].copy(), copied[..., 0].copy()
    out = np.zeros_like(array)
    memory = out.view(np.uint8) if channels > 1 else out
    texture, surface = TextureObject(array, "2d"), SurfaceObject(copied, "2d")
    kernels.get_function(f"copy_2d<{name}>")((1,), (5, 3), (texture, surface, memory))
    np.testing.assert_array_equal(out, array)
    np.testing.assert_array_equal(copied, array)


# The direction, and the face with the place on it, by the guide's table.
DIRECTIONS = [
    ((2, 0.5, -1), (0, 0.5, -0.25)),
    ((-2, 0.5, -1), (1, -0.5, -0.25)),
    ((0.5, 4, 1), (2, 0.125, 0.25)),
    ((0.5, -4, 1), (3, 0.125, -0.25)),
    ((1, 3, 8), (4, 0.125, -0.375)),
    ((1, 3, -8), (5, -0.125, -0.375)),
]


@pytest.mark.parametrize("filter_mode", ["point", "linear"])
def test_cube(kernels, filter_mode):
    array = np.random.default_rng(0).standard_normal((6, 4, 4)).astype(f32)
    out = fetched(kernels, "at_cube", TextureObject(array, "cube", filter_mode=filter_mode), [d for d, _ in DIRECTIONS])
    for found, (_, (face, s, t)) in zip(out, DIRECTIONS, strict=True):
        place = np.array([[(s + 1) / 2, (t + 1) / 2]])
        wanted = expected(array[face], place, ["clamp"] * 2, filter_mode == "linear", normalized=True)
        assert found == wanted[0]


def numbered(*shape, dtype=f32):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def test_layers_levels_and_derivatives(kernels):
    linear, one, two, three = numbered(5), numbered(4), numbered(3, 4), numbered(2, 3, 4)
    layers, images, cube, cubes = numbered(2, 4), numbered(2, 3, 4), numbered(6, 4, 4), numbered(2, 6, 4, 4)
    textures = [
        TextureObject(linear, "linear"),
        *map(TextureObject, (one, two, three)),
        TextureObject(layers, "1d-layered"),
        TextureObject(images, "2d-layered"),
        TextureObject(cube, "cube"),
        TextureObject(cubes, "cube-layered"),
    ]
    out = np.zeros(18, f32)
    kernels.get_function("others")((1,), (1,), (*textures, out))
    wanted = [linear[3], one[2], one[2], two[1, 2], two[1, 2], three[0, 1, 2], three[0, 1, 2]]
    wanted += [layers[1, 2]] * 3 + [images[1, 1, 2]] * 3
    # (0.1, -1, 0.4) is on face 3 at ((0.1 + 1) / 2, (-0.4 + 1) / 2) = (0.55, 0.3), in texels (2.2, 1.2)
    wanted += [cube[3, 1, 2]] * 2 + [cubes[1, 3, 1, 2]] * 3
    np.testing.assert_array_equal(out, wanted)


def test_gather(kernels):
    array = numbered(4, 5, 2, dtype=i32)
    texture = TextureObject(array, "2d")
    # The last one has x - 0.5 = 1.99805, which is 2 to 8 bits, as the guide's example has it.
    points = [(1.5, 1.5), (2.0, 2.0), (0.0, 0.0), (2.49805, 1.7)]
    out = np.zeros((4, 4), i32)
    for c in (0, 1):
        points_in = np.array(points, f32)
        kernels.get_function("gather")((1,), (32,), (texture, points_in.view(f32), i32(c), out, i32(4)))
        for (i, j), found in zip([(1, 1), (1, 1), (-1, -1), (2, 1)], out, strict=True):
            at = [(j + 1, i), (j + 1, i + 1), (j, i + 1), (j, i)]
            assert [*found] == [array[max(y, 0), max(x, 0), c] for y, x in at]


def test_surfaces_of_every_kind(kernels):
    arrays = [numbered(*s, dtype=i32) for s in [(3,), (2, 2, 3), (2, 3), (2, 2, 3), (6, 3, 3), (2, 6, 3, 3)]]
    kinds = ["1d", "3d", "1d-layered", "2d-layered", "cube", "cube-layered"]
    places = [(), (1, 1), (1,), (1, 1), (5, 1), (1, 1, 1)]
    before = [a.copy() for a in arrays]
    out = np.zeros((6, 3), i32)
    surfaces = [SurfaceObject(a, kind) for a, kind in zip(arrays, kinds, strict=True)]
    kernels.get_function("surfaces")((1,), (3,), (*surfaces, out))
    np.testing.assert_array_equal(out, [a[place] for a, place in zip(before, places, strict=True)])
    for array, old, place in zip(arrays, before, places, strict=True):
        old[place] = [0, 1, 2]
        np.testing.assert_array_equal(array, old)


def test_beyond_the_edges_of_a_surface(kernels):
    array, target, out = numbered(2, 3, dtype=i32) + 1, numbered(2, 3, dtype=i32), np.zeros(4, i32)
    kernels.get_function("beyond")((1,), (1,), (SurfaceObject(array), SurfaceObject(target), out))
    assert [*out] == [0, array[1, 0], array[0, 2], array[0, 1]]
    np.testing.assert_array_equal(target, [[200, 1, 2], [0, 300, 5]])


def test_an_array_lives_as_long_as_its_texture_and_is_not_copied(kernels):
    array = numbered(4)
    texture = TextureObject(array)
    array[2] = 9
    view = texture.array
    del array
    assert fetched(kernels, "at_1d", texture, [2.0])[0] == 9
    view[2] = 8
    assert fetched(kernels, "at_1d", texture, [2.0])[0] == 8


# --- what is told -----------------------------------------------------------------------------------------------------


def reported(kernel, args, block=1):
    """The reports of a launch that fails, in either mode; in fast mode the error's text alone."""
    with pytest.raises((CheckError, LaunchError)) as caught:
        kernel((1,), (block,), args)
    return str(caught.value)


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (12, 0, "out-of-bounds: surf2Dwrite of 4 bytes at (12, 0, 0): a surface of 12 bytes x 2 x 1"),
        (0, 2, "out-of-bounds: surf2Dwrite of 4 bytes at (0, 2, 0)"),
        (-4, 0, "out-of-bounds: surf2Dwrite of 4 bytes at (-4, 0, 0)"),
        (2, 0, "misaligned: surf2Dwrite at byte x = 2, which is not a multiple of the 4 bytes"),
    ],
)
def test_what_a_surface_does_not_take(either, x, y, told):
    array = np.zeros((2, 3), i32)
    text = reported(either.get_function("trapped"), (SurfaceObject(array), i32(x), i32(y)))
    kind, words = told.split(": ", 1)
    assert f"{kind}: k.cu:{line('surf2Dwrite(1, s, x, y)')}: block (0,0,0) thread (0,0,0): {words}" in text
    assert not array.any()


def test_handles_of_another_kind(either):
    image, out, gone = numbered(2, 2, dtype=i32), np.zeros(1, i32), TextureObject(numbered(2, 2, dtype=i32))
    number = np.uint64(gone.ptr)
    del gone
    mixed = either.get_function("mixed")
    mixed((1,), (1,), (TextureObject(image), out))
    place = f"texture: k.cu:{line('*out = tex2D<int>')}: block (0,0,0) thread (0,0,0): tex2D"
    for handle, told in [
        (np.uint64(0), f"{place} of 0, which is the handle of no texture"),
        (number, f"{place} of {int(number):#x}, which is the handle of no texture"),
        (np.uint64(2**64 - 1), f"{place} of 0xffffffffffffffff, which is the handle of no texture"),
        (SurfaceObject(image), f"{place} of a surface, it takes a texture"),
        (TextureObject(image[0]), f'{place} of a texture of kind "1d", it takes "2d"'),
        (TextureObject(image[..., None].repeat(2, -1), "2d"), f"{place} asks for 1 of int32, but what the texture"),
        (TextureObject(image[..., None].repeat(2, -1), "2d"), "what the texture returns is 2 of int32"),
        (TextureObject(image.astype(np.uint32)), "what the texture returns is 1 of uint32"),
        (TextureObject(image.astype(np.int16)), "what the texture returns is 1 of int16"),
        (TextureObject(image.astype(f32)), "what the texture returns is 1 of float32"),
    ]:
        assert told in reported(mixed, (handle, out))


def test_a_new_handle_is_never_an_old_one():
    handles = {TextureObject(numbered(2)).ptr for _ in range(50)}
    assert len(handles) == 50


def test_copies_of_a_texture_share_its_handle(either):
    texture, out = TextureObject(numbered(2, 2, dtype=i32) + 5), np.zeros(1, i32)
    same = copy.copy(texture)
    del texture
    others = [TextureObject(numbered(2, 2, dtype=i32)) for _ in range(3)]
    either.get_function("mixed")((1,), (1,), (same, out))
    assert out[0] == 5
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(others)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(same)


def test_layers_that_do_not_exist(either):
    texture, out = TextureObject(numbered(2, 3), "1d-layered"), np.zeros(1, f32)
    for number in (-1, 2):
        place = f"out-of-bounds: k.cu:{line('*out = tex1DLayered')}: block (0,0,0) thread (0,0,0): "
        text = reported(either.get_function("layer"), (texture, i32(number), out))
        assert f"{place}tex1DLayered of layer {number}, there are 2" in text


def test_coordinates_that_are_no_numbers(either):
    texture = TextureObject(numbered(3))
    with pytest.raises(
        (CheckError, LaunchError), match=r"texture: k.cu:\d+: .*tex1D at a coordinate that is no number"
    ):
        fetched(either, "at_1d", texture, [np.nan])
    cube = TextureObject(numbered(6, 2, 2), "cube")
    with pytest.raises((CheckError, LaunchError), match=r"texCubemap in the direction \(0, 0, 0\)"):
        fetched(either, "at_cube", cube, [[0, 0, 0]])


def test_linear_memory_has_an_end(checked):
    texture, out = TextureObject(numbered(3), "linear"), np.zeros(1, f32)
    place = f"out-of-bounds: k.cu:{line('*out = tex1Dfetch')}: block (0,0,0) thread (0,0,0): "
    for i in (-1, 3):
        text = reported(checked.get_function("at_linear"), (texture, i32(i), out))
        assert f"{place}tex1Dfetch of element {i} of a texture that has 3" in text
    out[0] = 5
    RawModule(KERNELS, name_expressions=NAMES, filename="k.cu").get_function("at_linear")(
        (1,), (1,), (texture, i32(3), out)
    )
    assert out[0] == 0


def test_a_handle_in_a_struct(either):
    texture, out = TextureObject(numbered(4)), np.zeros(2, f32)
    scene = np.zeros((), [("image", np.uint64), ("x", f32), ("pad", i32)])
    scene["image"], scene["x"] = texture.ptr, 1
    with reachable(texture.array):
        either.get_function("in_struct")((1,), (2,), (scene[()], out))
    assert [*out] == [1, 2]


def test_textures_and_surfaces_do_not_see_what_their_launch_writes(checked):
    memory, out = numbered(4), np.zeros(4, f32)
    text = reported(checked.get_function("stale"), (TextureObject(memory), memory, out), 4)
    place = f"texture: k.cu:{line('out[threadIdx.x] = tex1D<float>(t, threadIdx.x)')}: block (0,0,0) thread (0,0,0): "
    assert place + "read of argument 0 byte 0, which this launch has written: a texture or surface may return" in text
    numbers, out = numbered(4, dtype=i32), np.zeros(4, i32)
    text = reported(checked.get_function("stale_surface"), (SurfaceObject(numbers), out), 4)
    assert f"texture: k.cu:{line('surf1Dread<int>(s, 4 * threadIdx.x)')}: " in text


def test_threads_that_write_to_one_place_of_a_surface_race(checked):
    text = reported(checked.get_function("colliding"), (SurfaceObject(np.zeros(2, i32)),), 2)
    place = f"race: k.cu:{line('surf1Dwrite((int)threadIdx.x, s, 0)')}: block (0,0,0) thread (1,0,0): "
    assert place + "write of argument 0 byte 0" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextureObject([1.0]), "TextureObject: array must be a NumPy array, got got='list'"),
        (lambda: TextureObject(np.zeros(3)), "of one of int8, .* float32, got got='<f8'"),
        (lambda: TextureObject(np.zeros((2, 3), f32).T), "C-contiguous"),
        (lambda: TextureObject(np.zeros((2, 3, 3), f32), "2d"), '"2d" takes 2 axes, and one of 1, 2 or 4 channels'),
        (lambda: TextureObject(np.zeros((2, 3), f32), "4d"), "kind must be one of linear, 1d"),
        (lambda: TextureObject(np.zeros((1, 1, 1, 1), f32)), "kind must be one of .*got='of 4 axes'"),
        (lambda: TextureObject(np.zeros((0, 1), f32)), "sizes must be from 1 to"),
        (lambda: TextureObject(np.zeros(200_000, f32)), r"sizes must be from 1 to \[131072\]"),
        (lambda: TextureObject(np.zeros((6, 2, 3), f32), "cube"), "a cube has 6 faces, as high as they are wide"),
        (lambda: TextureObject(np.zeros(3, f32), address_mode="repeat"), "address_mode must be one of wrap, clamp"),
        (lambda: TextureObject(np.zeros(3, f32), address_mode=()), "address_mode must have 1 to 3 modes"),
        (lambda: TextureObject(np.zeros(3, f32), address_mode="wrap"), '"wrap" and "mirror" need normalized_coords'),
        (lambda: TextureObject(np.zeros(3, f32), filter_mode="cubic"), "filter_mode must be one of point, linear"),
        (lambda: TextureObject(np.zeros(3, i32), filter_mode="linear"), 'filter_mode "linear" needs floating-point'),
        (lambda: TextureObject(np.zeros(3, i32), read_mode="normalized_float"), "takes integers of 8 or 16 bits"),
        (lambda: TextureObject(np.zeros(3, f32), read_mode="normalized_float"), "takes integers of 8 or 16 bits"),
        (lambda: TextureObject(np.zeros(3, f32), border_color=(1, 2)), "border_color must have a number for each chan"),
        (lambda: TextureObject(np.zeros(3, f32), "linear", filter_mode="linear"), '"linear" has neither filter nor'),
        (lambda: TextureObject(np.zeros((6, 2, 2), f32), "cube", address_mode="border"), "the address_mode of a cube"),
        (lambda: SurfaceObject(np.zeros(3, f32), "linear"), 'there is no kind "linear"'),
        (lambda: SurfaceObject(np.broadcast_to(f32(1), 1)), "the array must be writeable"),
    ],
)
def test_what_cuda_does_not_know_is_refused(make, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is refused leaves nothing behind that complains when it is collected
        with pytest.raises(ArgumentError, match=message):
            make()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x[0] = tex2D<double>(t, 0, 0);", "^k.cu:2: no matching function .*tex2D"),
        ("float4 v = {}; surf2Dwrite(make_float3(1, 2, 3), t, 0, 0);", "^k.cu:2: no matching function .*surf2Dwrite"),
        ("bool b; x[0] = tex2D<float>(t, 0.0f, 0.0f, &b);", "^k.cu:2: no matching function .*tex2D"),
    ],
)
def test_types_and_forms_that_are_not_there(code, message):
    source = 'extern "C" __global__ void k(cudaTextureObject_t t, float* x) {\n  %s\n}'
    with pytest.raises(CompileError, match=message):
        RawKernel(source % code, "k", filename="k.cu")


def test_texture_references_are_refused_by_name():
    for declared in ("texture<float, 2> image;", "surface<void, 2> image;"):
        code = f'{declared}\nextern "C" __global__ void k(float* x) {{}}'
        with pytest.raises(CompileError, match="^k.cu:1: .*references.*use cudaTextureObject_t or cudaSurfaceObject_t"):
            RawKernel(code, "k", filename="k.cu")


def test_nvrtc_knows_the_same_names():
    core = pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    options = core.ProgramOptions(arch="sm_90", std="c++17")
    program = core.Program(KERNELS, "c++", options)
    try:
        assert program.compile("cubin", name_expressions=NAMES).code
    finally:
        program.close()
