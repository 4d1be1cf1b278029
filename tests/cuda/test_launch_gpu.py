"""What is launched on a GPU: on which device, with which arguments, of which arrays."""

import numpy as np
import pytest

from gpunn import backend, cuda
from gpunn import functional as F
from gpunn.errors import DeviceError, LaunchError
from gpunn.observer import Observer
from gpunn.ops import dropout, optimizer

pytestmark = pytest.mark.gpu


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def image(dtype=np.float32):
    return np.arange(2 * 4 * 6 * 8, dtype=dtype).reshape(2, 4, 6, 8) % 37


FUNCTIONS = {
    "pool": lambda x: F.max_pool2d(x, 2),
    "pool of another stride": lambda x: F.avg_pool2d(x, (2, 3), (1, 2)),
    "pool of float64": lambda x: F.max_pool2d(x.astype(np.float64), 2),
    "padded pool": lambda x: F.avg_pool2d(x, 3, 2, (1, 0), ceil_mode=True),
    "lrn": lambda x: F.local_response_norm(x, 3),
    "dropout": lambda x: dropout.dropout(x, 0.5, 7)[0],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_kernels_give_what_the_cpu_gives_of_any_view(cupy, name):
    function, x = FUNCTIONS[name], image()
    there = backend.to_gpu(x)
    views = [lambda a: a, lambda a: a[:, ::-1], lambda a: a.transpose(0, 1, 3, 2), lambda a: a[:, 1:3, :, 1::2]]
    for view in views:
        got = backend.to_cpu(function(view(there)))
        np.testing.assert_allclose(got, function(np.ascontiguousarray(view(x))), rtol=1e-6)


def test_steps_change_arrays_in_place(cupy):
    arrays = [np.linspace(-1, 1, 37).astype(np.float32) * n for n in (1, 2, 3)]
    there = [backend.to_gpu(a) for a in arrays]
    optimizer.sgd_step(*arrays, 0.1, 0.9, True, 0.01)
    optimizer.sgd_step(*there, 0.1, 0.9, True, 0.01)
    for x, y in zip(arrays, there, strict=True):
        np.testing.assert_allclose(backend.to_cpu(y), x, rtol=1e-6)


def test_each_device_launches_its_own(cupy):
    if backend.gpu_count() < 2:
        pytest.skip("one GPU")
    x = image()
    expected = F.max_pool2d(x, 2)
    for device in ("gpu:0", "gpu:1", "gpu:0"):
        with backend.use_device(device):
            y = F.max_pool2d(backend.to_gpu(x, device), 2)
        assert backend.device_of(y) == device
        np.testing.assert_array_equal(backend.to_cpu(y), expected)


def test_arrays_of_another_device_are_refused_by_name(cupy):
    if backend.gpu_count() < 2:
        pytest.skip("one GPU")
    x = backend.to_gpu(image(), "gpu:1")
    rule = r"max_pool2d_forward: arrays must be on the current device; .*, got arrays=\['gpu:1'\], current='gpu:0'"
    with backend.use_device("gpu:0"), pytest.raises(DeviceError, match=rule):
        F.max_pool2d(x, 2)


def test_arrays_of_half_types_are_passed_as_bits(cupy):
    x = image(np.float16)
    np.testing.assert_array_equal(backend.to_cpu(F.max_pool2d(backend.to_gpu(x), 2)), F.max_pool2d(x, 2))
    np.testing.assert_allclose(backend.to_cpu(F.avg_pool2d(backend.to_gpu(x), 2)), F.avg_pool2d(x, 2), rtol=1e-3)
    seen = []

    class Arguments(Observer):
        def around_launch(self, file, kernel, args, function):
            seen.append((file, kernel, [a.dtype for a in args if backend.is_array(a)]))
            return function

    with Arguments():
        F.max_pool2d(backend.to_gpu(x), 2)
    ((file, kernel, dtypes),) = seen
    assert (file, kernel, dtypes[:2]) == ("pool.cu", "max_pool2d_forward", [np.uint16, np.uint16])


def test_what_the_kernels_take(cupy):
    taken = {np.float32: (True, True), np.float64: (True, True), np.float16: (False, True), np.int32: (False, False)}
    for dtype, (plain, half) in taken.items():
        x = cupy.ones(2, dtype)
        assert (cuda.takes(x), cuda.takes(x, half=True)) == (plain, half)
    assert not cuda.takes(np.ones(2))


def test_an_array_that_begins_anywhere_is_read_or_refused(cupy):
    x = image()
    room = cupy.zeros(x.nbytes + 16, np.uint8)
    for start in (0, 4, 8):
        y = room[start : start + x.nbytes].view(np.float32).reshape(x.shape)
        y[...] = cupy.asarray(x)
        np.testing.assert_array_equal(backend.to_cpu(F.max_pool2d(y, 2)), F.max_pool2d(x, 2))
    y = cupy.ndarray(x.shape, np.float32, room.data + 2)
    rule = r"arrays must begin at a multiple of their element size, got dtype='float32', shape=\(2, 4, 6, 8\)"
    with pytest.raises(LaunchError, match=rule):
        F.max_pool2d(y, 2)


def test_numpy_and_cupy_arrays_are_not_mixed(cupy):
    with pytest.raises(DeviceError, match="arrays must be on one device; use to_gpu or to_cpu"):
        cuda.launch("pool.cu", "max_pool2d_forward", {}, (1,), (1,), [cupy.ones(1), np.ones(1)])
