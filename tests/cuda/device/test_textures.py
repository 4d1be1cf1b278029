"""cupy.cuda.texture: arrays, textures and surfaces, and CuPy's affine_transform through them."""

import ctypes
import re
import textwrap

import numpy as np
import pytest
from own_process import in_a_process

cupy = pytest.importorskip("cupy")
from cupy.cuda import runtime, texture  # noqa: E402
from cupyx.scipy import ndimage  # noqa: E402

from gpunn.cuda import device  # noqa: E402

pytestmark = pytest.mark.gpu

emulated = pytest.mark.skipif(device.running() is None, reason="of the emulated device")

f32 = np.float32
FLOAT, SIGNED, UNSIGNED = (
    runtime.cudaChannelFormatKindFloat,
    runtime.cudaChannelFormatKindSigned,
    runtime.cudaChannelFormatKindUnsigned,
)
CLAMP, WRAP, BORDER = runtime.cudaAddressModeClamp, runtime.cudaAddressModeWrap, runtime.cudaAddressModeBorder
POINT, LINEAR = runtime.cudaFilterModePoint, runtime.cudaFilterModeLinear
LAYERED, SURFACE, CUBE, GATHER, SPARSE = 1, 2, 4, 8, 64
CUDA_ERROR = runtime.CUDARuntimeError

KERNELS = """
__device__ int number() { return blockIdx.x * blockDim.x + threadIdx.x; }
extern "C" __global__ void at_2d(cudaTextureObject_t t, const float2* at, float* out, int n) {
  int i = number();
  if (i < n) out[i] = tex2D<float>(t, at[i].x, at[i].y);
}
extern "C" __global__ void at_linear(cudaTextureObject_t t, int* out) {
  out[threadIdx.x] = tex1Dfetch<short2>(t, threadIdx.x).y;
}
extern "C" __global__ void in_layers(cudaTextureObject_t one, cudaTextureObject_t two, cudaTextureObject_t cube,
                                     float* out) {
  out[0] = tex1DLayered<float>(one, 2.5f, 1);
  out[1] = tex2DLayered<float>(two, 2.5f, 1.5f, 1);
  out[2] = texCubemap<float>(cube, 0.1f, -1.0f, 0.4f);
}
extern "C" __global__ void gather(cudaTextureObject_t t, float4* out) { *out = tex2Dgather<float4>(t, 2.0f, 1.0f); }
extern "C" __global__ void negate(cudaSurfaceObject_t s) {
  int v = surf3Dread<int>(s, 4 * threadIdx.x, threadIdx.y, threadIdx.z);
  surf3Dwrite(-v, s, 4 * threadIdx.x, threadIdx.y, threadIdx.z);
}
"""


@pytest.fixture(scope="module")
def kernels():
    return cupy.RawModule(code=KERNELS)


def channels(*bits, kind=FLOAT):
    return texture.ChannelFormatDescriptor(*bits, *[0] * (4 - len(bits)), kind)


def array_of(values, flags=0):
    """A CUDA array with these values, x last."""
    kind = {"f": FLOAT, "i": SIGNED, "u": UNSIGNED}[values.dtype.kind]
    made = texture.CUDAarray(channels(8 * values.dtype.itemsize, kind=kind), *values.shape[::-1], flags=flags)
    made.copy_from(values)
    return made


def texture_of(array, modes=(CLAMP,) * 3, filter_mode=POINT, **more):
    resource = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
    return texture.TextureObject(resource, texture.TextureDescriptor(modes, filter_mode, 0, **more))


def fetched(kernels, made, points):
    out = cupy.zeros(len(points), f32)
    kernels.get_function("at_2d")((1,), (256,), (made, cupy.asarray(points, f32), out, np.int32(len(points))))
    return cupy.asnumpy(out)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 5)])
def test_arrays_hold_what_is_copied_to_them(shape):
    for values in (np.arange(np.prod(shape), dtype=np.int16).reshape(shape), cupy.random.random(shape, dtype=f32)):
        array, back = array_of(values), values * 0
        array.copy_to(back)
        cupy.cuda.get_current_stream().synchronize()
        assert (back == values).all()


def test_a_part_of_an_array_is_copied():
    array, part = array_of(cupy.zeros((4, 6), f32)), np.array([[1, 2], [3, 4]], f32)
    runtime.memcpy2DToArray(array.ptr, 8, 1, part.ctypes.data, 8, 8, 2, runtime.memcpyHostToDevice)
    whole, one = np.zeros((4, 6), f32), cupy.zeros((2, 1), f32)
    array.copy_to(whole)
    cupy.cuda.get_current_stream().synchronize()
    wanted = np.zeros((4, 6), f32)
    wanted[1:3, 2:4] = part
    np.testing.assert_array_equal(whole, wanted)
    stream = cupy.cuda.Stream(non_blocking=True)
    runtime.memcpy2DFromArrayAsync(one.data.ptr, 4, array.ptr, 12, 1, 4, 2, runtime.memcpyDeviceToDevice, stream.ptr)
    stream.synchronize()
    assert one.tolist() == [[2], [4]]
    for x, y, width in [(20, 0, 8), (0, 4, 4), (24, 0, 4)]:
        with pytest.raises(CUDA_ERROR, match="InvalidValue"):
            runtime.memcpy2DToArray(array.ptr, x, y, part.ctypes.data, 8, width, 1, runtime.memcpyHostToDevice)


class Box(ctypes.Structure):
    """cudaMemcpy3DParms."""

    _fields_ = (
        ("from_array", ctypes.c_void_p),
        ("from_position", ctypes.c_size_t * 3),
        ("source", ctypes.c_size_t * 4),
        ("to_array", ctypes.c_void_p),
        ("to_position", ctypes.c_size_t * 3),
        ("to", ctypes.c_size_t * 4),
        ("extent", ctypes.c_size_t * 3),
        ("kind", ctypes.c_int),
    )


def test_boxes_between_arrays_and_memory():
    values = np.arange(60, dtype=f32).reshape(3, 4, 5)
    one, two = array_of(values), array_of(np.zeros((4, 4, 5), f32))
    kind = runtime.memcpyDeviceToDevice
    box = Box(one.ptr, (1, 2, 1), (0,) * 4, two.ptr, (2, 0, 2), (0,) * 4, (3, 2, 2), kind)
    runtime.memcpy3D(ctypes.addressof(box))
    back = np.zeros((4, 4, 5), f32)
    two.copy_to(back)
    cupy.cuda.get_current_stream().synchronize()
    wanted = np.zeros((4, 4, 5), f32)
    wanted[2:4, 0:2, 2:5] = values[1:3, 2:4, 1:4]
    np.testing.assert_array_equal(back, wanted)
    box.extent[0] = 4  # it would end beyond both
    with pytest.raises(CUDA_ERROR, match="InvalidValue"):
        runtime.memcpy3D(ctypes.addressof(box))


def test_filters_and_address_modes(kernels):
    values = np.array([[0, 1, 2], [10, 11, 12]], f32)
    array = array_of(values)
    points = [(1.0, 1.0), (-3.0, 0.5), (9.0, 1.5), (1.5, -9.0)]
    smooth = texture_of(array, filter_mode=LINEAR)
    np.testing.assert_array_equal(fetched(kernels, smooth, points), [5.5, 0, 12, 1])
    # Coordinates that are not normalized are clamped where they should wrap.
    np.testing.assert_array_equal(fetched(kernels, texture_of(array, (WRAP, WRAP)), points), [11, 0, 12, 1])
    edged = texture_of(array, (BORDER, CLAMP), borderColors=(7.5,))
    np.testing.assert_array_equal(fetched(kernels, edged, points), [11, 7.5, 7.5, 1])
    wrapped = texture_of(array, (WRAP, WRAP), normalizedCoords=1)
    np.testing.assert_array_equal(fetched(kernels, wrapped, [(1.5, -0.25), (-0.1, 2.75)]), [11, 12])


def test_linear_memory_and_rows(kernels):
    numbers, out = cupy.arange(12, dtype=np.int16), cupy.zeros(6, np.int32)
    point = texture.TextureDescriptor((CLAMP,), POINT, 0)
    line = texture.ResourceDescriptor(
        runtime.cudaResourceTypeLinear, arr=numbers, chDesc=channels(16, 16, kind=SIGNED), sizeInBytes=24
    )
    kernels.get_function("at_linear")((1,), (6,), (texture.TextureObject(line, point), out))
    assert out.tolist() == [1, 3, 5, 7, 9, 11]
    image = cupy.arange(48, dtype=f32).reshape(3, 16)
    resource = {"arr": image, "chDesc": channels(32), "width": 10, "height": 3, "pitchInBytes": 64}
    rows = texture.ResourceDescriptor(runtime.cudaResourceTypePitch2D, **resource)
    made = texture.TextureObject(rows, point)
    np.testing.assert_array_equal(fetched(kernels, made, [(9.0, 2.0), (12.0, 1.0)]), [41, 25])
    for wrong in ({"pitchInBytes": 36}, {"arr": image[:, 1:]}, {"width": 20}):
        with pytest.raises(CUDA_ERROR, match="InvalidValue"):
            texture.TextureObject(
                texture.ResourceDescriptor(runtime.cudaResourceTypePitch2D, **{**resource, **wrong}), point
            )


def test_layers_and_cubes(kernels):
    layers, images, cube = (np.arange(n, dtype=f32) for n in (8, 24, 96))
    images, cube = images.reshape(2, 3, 4), cube.reshape(6, 4, 4)
    two, faces = array_of(images, LAYERED), array_of(cube, CUBE)
    # CuPy's class makes no layers of one dimension: it is lent one of two, whose handle is that of such an array.
    form = channels(32)
    one = texture.CUDAarray(form, 1)
    handle = runtime.malloc3DArray(form.ptr, 4, 0, 2, LAYERED)
    box = Box(to_array=handle, extent=(4, 1, 2), kind=runtime.memcpyHostToDevice)
    box.source[:] = layers.ctypes.data, 16, 4, 1
    runtime.memcpy3D(ctypes.addressof(box))
    resource = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=one)
    ctypes.c_void_p.from_address(resource.ptr + 8).value = handle
    line = texture.TextureObject(resource, texture.TextureDescriptor((CLAMP,), POINT, 0))
    out = cupy.zeros(3, f32)
    kernels.get_function("in_layers")((1,), (1,), (line, texture_of(two), texture_of(faces), out))
    assert out.tolist() == [6, images[1, 1, 2], cube[3, 1, 2]]
    runtime.freeArray(handle)


def test_gather(kernels):
    values = np.arange(12, dtype=f32).reshape(3, 4)
    out = cupy.zeros(4, f32)
    kernels.get_function("gather")((1,), (1,), (texture_of(array_of(values, GATHER)), out))
    assert out.tolist() == [5, 6, 2, 1]


def test_surfaces(kernels):
    values = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    array, back = array_of(values, SURFACE), np.zeros_like(values)
    resource = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
    kernels.get_function("negate")((1,), (4, 3, 2), (texture.SurfaceObject(resource),))
    array.copy_to(back)
    cupy.cuda.get_current_stream().synchronize()
    np.testing.assert_array_equal(back, -values)


@pytest.mark.parametrize("shape", [(9, 12), (5, 6, 7)])
def test_affine_transform(shape):
    image = cupy.asarray(np.random.default_rng(0).standard_normal(shape), f32)
    matrix = np.eye(len(shape) + 1, dtype=f32)
    matrix[0, 0], matrix[0, 1], matrix[1, -1] = 0.75, 0.25, 0.5  # whose products have at most 8 bits after the point
    through = ndimage.affine_transform(image, cupy.asarray(matrix), order=1, texture_memory=True)
    wanted = ndimage.affine_transform(image, cupy.asarray(matrix), order=1)
    inner = (slice(2, -3),) * len(shape)  # beyond the edge a texture fades, and SciPy's function cuts
    np.testing.assert_allclose(cupy.asnumpy(through)[inner], cupy.asnumpy(wanted)[inner], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: texture.CUDAarray(channels(32, 32, 32), 4),
        lambda: texture.CUDAarray(channels(32, 16), 4),
        lambda: texture.CUDAarray(channels(8), 4),
        lambda: texture.CUDAarray(channels(32), 4, 5, 6, flags=CUBE),
        lambda: texture.CUDAarray(channels(32), 200_000),
        lambda: texture_of(array_of(np.zeros((2, 2), np.int32)), filter_mode=LINEAR),
        lambda: texture.SurfaceObject(
            texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array_of(np.zeros((2, 2), f32)))
        ),
        lambda: runtime.freeArray(cupy.zeros(3).data.ptr),
        lambda: runtime.destroyTextureObject(12345),
    ],
)
@emulated
def test_what_cuda_does_not_take(make):
    with pytest.raises(CUDA_ERROR, match="InvalidValue"):
        make()


@emulated
def test_what_is_not_emulated():
    array = array_of(np.zeros((2, 2), np.uint8))
    for make in (lambda: texture_of(array, sRGB=1), lambda: texture.CUDAarray(channels(32), 64, 64, flags=SPARSE)):
        with pytest.raises(CUDA_ERROR, match="NotSupported.*emulated device"):
            make()


HEAD = """
from cupy.cuda import runtime, texture
form = texture.ChannelFormatDescriptor(32, 0, 0, 0, 2)
point = texture.TextureDescriptor((1, 1), 0, 0)
def image(values):
    array = texture.CUDAarray(form, values.shape[1], values.shape[0], flags=2)
    array.copy_from(values)
    return texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
def kernel(body):
    return cupy.RawKernel(
        'extern "C" __global__ void f(unsigned long long t, float* y) {\\n  %s\\n}' % body, "f")
y = cupy.zeros(4, np.float32)
def tell(f):
    try:
        f()
        cupy.cuda.Device().synchronize()
        print("fine")
    except cupy.cuda.driver.CUDADriverError as error:
        print(str(error).replace(" ", "_"))
"""


@emulated
def test_a_late_kernel_has_its_texture_though_nobody_holds_it_any_more():
    code = """
    stream = cupy.cuda.Stream(non_blocking=True)
    values = cupy.arange(8, dtype=np.float32).reshape(2, 4)
    cupy.cuda.Device().synchronize()
    with stream:
        made = texture.TextureObject(image(values), point)
        k = kernel("y[threadIdx.x] = tex2D<float>(t, threadIdx.x, 1);")
        k((1,), (4,), (made, y))
        del made
    print(*y.get(stream=stream).astype(int))
    """
    assert in_a_process(HEAD + "\n" + textwrap.dedent(code), late=True) == ["4", "5", "6", "7"]


@emulated
@pytest.mark.parametrize("check", [False, True])
def test_mistakes_are_told_with_their_line(check):
    code = """
    values = cupy.arange(8, dtype=np.float32).reshape(2, 4)
    resource = image(values)
    made, surface = texture.TextureObject(resource, point), texture.SurfaceObject(resource)
    """
    # The device is broken then, and says so to whoever frees its arrays.
    leave = "import os, sys; sys.stdout.flush(); os._exit(0)"
    mistakes = [
        (
            "np.uint64(99)",
            "*y = tex2D<float>(t, 0, 0);",
            "texture: .*:2: .*tex2D of 0x63, which is the handle of no tex",
        ),
        (
            "made",
            "*y = tex2D<float4>(t, 0, 0).x;",
            "texture: .*asks for 4 of float32, but what the texture returns is 1",
        ),
        ("made", "*y = tex2Dgather<float4>(t, 0, 0).x;", "texture: .*no CUDA array made with cudaArrayTextureGather"),
        ("surface", "surf2Dwrite(1.0f, t, 16, 0);", r"out-of-bounds: .*:2: .*surf2Dwrite of 4 bytes at \(16, 0, 0\)"),
    ]
    # One module, which is compiled once, has them all, in its second line.
    head = 'extern "C" __global__ void f%d(unsigned long long t, float* y) { %s }'
    module = "\n" + " ".join(head % (number, body) for number, (_, body, _) in enumerate(mistakes))
    for number, (argument, _, told) in enumerate(mistakes):
        kernel = f"cupy.RawModule(code={module!r}).get_function('f{number}')"
        launch = f"tell(lambda: {kernel}((1,), (1,), ({argument}, y)))\n"
        (said,) = in_a_process(HEAD + textwrap.dedent(code) + launch + leave, check=check)
        assert re.search(told, said.replace("_", " ")), said


@emulated
def test_check_mode_knows_texels_that_nobody_wrote_and_arrays_that_were_freed():
    code = """
    raw = texture.CUDAarray(form, 4, 2)
    made = texture.TextureObject(texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=raw), point)
    k = kernel("*y = tex2D<float>(t, 1, 0);")
    tell(lambda: k((1,), (1,), (made, y)))
    raw.copy_from(cupy.zeros((2, 4), np.float32))
    tell(lambda: k((1,), (1,), (made, y)))
    """
    said = in_a_process(HEAD + textwrap.dedent(code), check=True)
    assert len(said) == 2
    assert "uninitialised" in said[0]
    assert said[1] == "fine"
