"""What only a GPU shows: strided arrays and views, streams, arrays of other libraries, denormals.

Captured steps are in tests/test_cuda_graph.py. Every kernel against NumPy, and twice for the same bits, is in
tests/cuda/test_launch.py and in the ``cupy`` cases of tests/ops/; fifty steps of training in
tests/test_recipe_digits.py.
"""

import numpy as np
import oracles
import pytest

from gpunn import backend, nn, tensor
from gpunn import functional as F
from gpunn.errors import DeviceError

pytestmark = pytest.mark.gpu


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def weights(rng):
    return backend.to_gpu(rng.standard_normal((6, 4, 3, 3)).astype(np.float32))


FUNCTIONS = {
    "conv2d": lambda x, w: F.conv2d(x, w, padding=1),
    "depthwise conv2d": lambda x, w: F.conv2d(x, w[:4, :1], padding=1, groups=4),
    "max_pool2d": lambda x, w: F.max_pool2d(x, 3, 2),
    "avg_pool2d": lambda x, w: F.avg_pool2d(x, 3, 2),
    "global_avg_pool2d": lambda x, w: F.global_avg_pool2d(x),
    "local_response_norm": lambda x, w: F.local_response_norm(x, 3),
    "batch_norm": lambda x, w: F.batch_norm(x, training=True),
    "dropout": lambda x, w: F.dropout(x, 0.4, generator=backend.random_generator(0)),
    "bias_relu_lrn_pool": lambda x, w: F.bias_relu_lrn_pool(x, w[0, :, 0, 0]),
    "softmax": lambda x, w: F.softmax(x, 1),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_views_of_every_kind(cupy, rng, name):
    """Transposed, with gaps, backwards, and beginning inside an allocation: the same as the copy of each."""
    w, function = weights(rng), FUNCTIONS[name]
    whole = cupy.asarray(rng.standard_normal((5, 12, 11, 8)).astype(np.float32))
    views = {
        "transposed": whole[:, :4].transpose(0, 1, 3, 2),
        "with gaps": whole[::2, 1:9:2, :, ::2],
        "backwards": whole[:, 3::-1, ::-1, ::-1],
        "channels last": whole[..., :4].transpose(0, 3, 1, 2),
        "from the second element": whole.ravel()[1 : 1 + 2 * 4 * 9 * 7].reshape(2, 4, 9, 7),
        "of one image": whole[3:4, :4],
    }
    for x in views.values():
        expected = function(backend.to_gpu(np.ascontiguousarray(backend.to_cpu(x))), w)
        # Up to rounding: where a view cannot be read by 16 bytes, sums may be formed in another order.
        oracles.assert_close(backend.to_cpu(function(x, w)), backend.to_cpu(expected), terms=x.size)


def test_gradients_of_views(cupy, rng):
    """Of a strided image, from a strided gradient of the result."""
    x = cupy.asarray(rng.standard_normal((2, 9, 9, 4)).astype(np.float32)).transpose(0, 3, 1, 2)
    g = cupy.asarray(rng.standard_normal((3, 3, 6, 2)).astype(np.float32)).T
    w, gradients = weights(rng), []
    for image, gradient in ((x, g), (cupy.ascontiguousarray(x), cupy.ascontiguousarray(g))):
        leaf = tensor(image, requires_grad=True)
        F.max_pool2d(F.conv2d(leaf, w), 2).backward(gradient)
        gradients.append(backend.to_cpu(leaf.grad))
    np.testing.assert_array_equal(*gradients)


SPIN = """extern "C" __global__ void spin(long long cycles) {
  const long long start = clock64();
  while (clock64() - start < cycles) {}
}"""


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("dropout", "softmax")])
def test_launches_follow_the_current_stream(cupy, rng, name):
    """The input is written in a stream that is kept busy first: a launch in another stream would not wait for it."""
    function, w = FUNCTIONS[name], weights(rng)
    source = cupy.asarray(rng.standard_normal((2, 4, 9, 9)).astype(np.float32))
    expected = backend.to_cpu(
        function(source, w)
    )  # also compiles and loads the kernels: that would wait for every stream
    spin = cupy.RawKernel(SPIN, "spin")
    spin((1,), (1,), (np.int64(1),))
    x = cupy.full_like(source, np.nan)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with stream:
        spin((1,), (1,), (np.int64(200_000_000),))  # a tenth of a second or so
        cupy.copyto(x, source)
        y = function(x, w)
    stream.synchronize()
    np.testing.assert_array_equal(backend.to_cpu(y), expected)


class Foreign:
    """An array of another library, as far as the protocol tells."""

    def __init__(self, array):
        self.array, self.__cuda_array_interface__ = array, array.__cuda_array_interface__


def test_the_cuda_array_interface(cupy, rng):
    ours = cupy.asarray(rng.standard_normal((2, 3, 8, 8)).astype(np.float32))
    shared = cupy.asarray(Foreign(ours))
    assert shared.data.ptr == ours.data.ptr
    shared, ours = (backend.to_cpu(F.max_pool2d(a, 2)) for a in (shared, ours))
    np.testing.assert_array_equal(shared, ours)


@pytest.mark.peer
@pytest.mark.parametrize("way", ["from_dlpack", "asarray"])
def test_tensors_of_pytorch(cupy, way):
    """They share memory with CuPy's arrays, there and back."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no GPU")
    x = torch.randn(2, 4, 9, 9, device="cuda")
    shared = getattr(cupy, way)(x)
    assert shared.data.ptr == x.data_ptr()
    y = torch.from_dlpack(F.max_pool2d(shared, 3, 2))
    assert torch.equal(y, torch.nn.functional.max_pool2d(x, 3, 2))
    y = torch.as_tensor(F.local_response_norm(shared, 3), device="cuda")
    torch.testing.assert_close(y, torch.nn.functional.local_response_norm(x, 3))


@pytest.mark.parametrize("layer", [nn.Dropout, nn.Dropout2d])
def test_dropout_layers_draw_the_same_mask_everywhere(layer, rng):
    x = rng.standard_normal((3, 5, 7, 6)).astype(np.float32)
    results = []
    for place in (np.asarray, backend.to_gpu):
        module = layer(0.4, generator=backend.random_generator(7))
        results.append([backend.to_cpu(module(place(x))) for _ in range(2)])  # the second call goes on in the stream
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0][0] != results[0][1]).any()


def test_denormals_are_kept(cupy):
    """As on the CPU: kernels are not compiled with -ftz=true."""
    x = np.float32([1e-40, -1e-42, 3e-39, 2e-45]).reshape(1, 1, 2, 2)
    for function in (lambda x: F.max_pool2d(x, 1), lambda x: F.avg_pool2d(x, 2), lambda x: F.dropout(x, 0.0)):
        result = backend.to_cpu(function(cupy.asarray(x)))
        np.testing.assert_array_equal(result, function(x))
        assert (result != 0).all()


def test_an_array_of_another_device_is_refused(cupy):
    if backend.gpu_count() < 2:
        pytest.skip("one GPU")
    with cupy.cuda.Device(1):
        x = cupy.ones((1, 1, 4, 4), np.float32)
    with cupy.cuda.Device(0), pytest.raises(DeviceError, match="arrays must be on the current device"):
        F.max_pool2d(x, 2)
