"""Streams as CUDA has them, also late: of destroyed streams, of copies between devices, of other devices."""

import numpy as np
import pytest

from gpunn.backend import gpu_count
from gpunn.cuda import device

pytestmark = pytest.mark.gpu

SIZE = 5000


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def is_late():
    settings = device.running()
    return settings is not None and settings.late


def begin_copy(cupy, stream, value):
    """Pinned memory, and an array of ``value`` that goes there in ``stream``."""
    import cupyx

    x, target = cupy.full(SIZE, value), cupyx.zeros_pinned(SIZE)
    cupy.cuda.get_current_stream().synchronize()
    x.get(stream=stream, out=target, blocking=False)
    return x, target


def test_the_work_of_a_destroyed_stream_goes_on(cupy):
    stream = cupy.cuda.Stream(non_blocking=True)
    x, target = begin_copy(cupy, stream, 3.0)
    del stream
    assert not (is_late() and target.any())
    cupy.cuda.Device().synchronize()
    np.testing.assert_array_equal(target, 3)
    assert x.size == SIZE


def test_the_legacy_stream_waits_for_a_destroyed_one(cupy):
    stream = cupy.cuda.Stream()
    x, target = begin_copy(cupy, stream, 3.0)
    del stream
    y = x * 2
    cupy.cuda.Stream.null.synchronize()
    np.testing.assert_array_equal(target, 3)
    assert y.size == SIZE


def test_a_device_that_is_waited_for_leaves_others_alone(cupy):
    if gpu_count() < 2:
        pytest.skip("one GPU")
    with cupy.cuda.Device(1):
        stream = cupy.cuda.Stream(non_blocking=True)
        x, target = begin_copy(cupy, stream, 3.0)
    with cupy.cuda.Device(0) as first:
        first.synchronize()
    assert not (is_late() and target.any())
    with cupy.cuda.Device(1) as second:
        second.synchronize()
    np.testing.assert_array_equal(target, 3)
    assert x.device.id == 1


def test_a_copy_between_devices_in_the_legacy_stream_is_in_turn_with_both(cupy):
    if gpu_count() < 2:
        pytest.skip("one GPU")
    with cupy.cuda.Device(0):
        x = cupy.full(SIZE, 3.0)
        x += 1
    with cupy.cuda.Device(1):
        y = x.copy()
        z = y * 2
    with cupy.cuda.Device(0):
        x.fill(9)  # after the copy
        cupy.cuda.Stream.null.synchronize()
    np.testing.assert_array_equal(z.get(), 8)
    np.testing.assert_array_equal(y.get(), 4)
