"""Devices, dtypes and transfers of gpunn.backend with CuPy's arrays; on two GPUs where there are two."""

import numpy as np
import pytest

from gpunn import backend
from gpunn.errors import ArgumentError, DeviceError, DtypeError

pytestmark = pytest.mark.gpu

SIZE = 5000


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture
def two(cupy):
    if backend.gpu_count() < 2:
        pytest.skip("one GPU")
    with cupy.cuda.Device(0):
        yield cupy


def pending(cupy, value):
    """An array that the current stream has yet to compute: what was in its memory before is another number."""
    x = cupy.full(SIZE, -1.0)
    cupy.cuda.get_current_stream().synchronize()
    x += value + 1
    return x


def test_an_array_comes_back_after_the_work_on_it(cupy):
    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
        with stream:
            np.testing.assert_array_equal(backend.to_cpu(pending(cupy, 3)), np.full(SIZE, 3.0))


def test_an_array_that_is_there_is_not_copied(cupy):
    x = cupy.arange(4)
    assert backend.to_gpu(x, f"gpu:{x.device.id}") is x
    assert backend.asarray(x) is x
    y = np.arange(4)
    assert backend.to_cpu(y) is y
    with pytest.raises(ArgumentError, match="to_gpu: device must be a GPU, got device='cpu'"):
        backend.to_gpu(x, "cpu")


def test_modules_and_places(cupy):
    x, y = cupy.ones(2), np.ones(2)
    assert backend.get_array_module(x, 2.0) is cupy
    assert backend.get_array_module(y) is np
    assert (backend.is_array(x), backend.is_array(2.0), backend.is_array(np.float64(2))) == (True, False, False)
    assert backend.plain(x) is x
    with pytest.raises(DeviceError, match=r"arrays must be on one device; .*, got arrays=\['CuPy', 'NumPy'\]"):
        backend.get_array_module(x, y)
    assert backend.operands("op", x=x, w=x) is cupy
    assert backend.operands("op", {"b": None}, x=y) is np
    with pytest.raises(DeviceError, match="op: arrays must all be NumPy's or all be CuPy's, got x='CuPy', b='NumPy'"):
        backend.operands("op", {"b": y}, x=x)
    with pytest.raises(DtypeError, match="op: arrays must have one dtype, got x='float64', w='float32'"):
        backend.operands("op", x=x, w=x.astype(np.float32))
    with pytest.raises(DtypeError, match="op: x must be a floating array, got dtype='int32'"):
        backend.operands("op", x=x.astype(np.int32))
    with pytest.raises(DtypeError, match="op: x must be a NumPy or CuPy array, got type='list'"):
        backend.operands("op", x=[1.0])


def test_dtypes_on_the_gpu(cupy):
    assert backend.asarray([1.5], "gpu").dtype == np.float32
    assert backend.asarray([1, 2], "gpu").dtype == np.int64
    assert backend.asarray(np.ones(2), "gpu").dtype == np.float64
    assert backend.asarray(cupy.ones(2), dtype=np.float16).dtype == np.float16
    assert backend.asarray(cupy.ones(2), "cpu", np.float16).dtype == np.float16
    assert backend.asarray(cupy.ones(2), dtype=">f4").dtype == np.float32
    assert backend.accumulation_dtype(cupy.ones(2, np.float16).dtype) == np.float32
    assert backend.accumulation_dtype(cupy.ones(2).dtype) == np.float64
    swapped = backend.asarray(np.arange(3, dtype=">f4"), "gpu")
    assert swapped.dtype == np.float32
    np.testing.assert_array_equal(backend.to_cpu(swapped), [0, 1, 2])
    x = cupy.arange(3, dtype=np.float32)
    assert backend.cast(x, np.float32) is x
    assert backend.cast(x, np.float32, copy=True) is not x
    np.testing.assert_array_equal(backend.to_cpu(backend.cast(x, np.float16)), np.float16([0, 1, 2]))


# ---- two GPUs -------------------------------------------------------------------------------------------------------


def test_arrays_go_to_the_device_that_is_named(two):
    x = np.arange(6.0)[::2]
    there = backend.to_gpu(x, "gpu:1")
    assert (backend.device_of(there), two.cuda.Device().id) == ("gpu:1", 0)
    np.testing.assert_array_equal(backend.to_cpu(there), x)
    assert backend.device_of(backend.to_gpu(x)) == "gpu:0"
    assert backend.device_of(backend.asarray([1, 2], "gpu:1")) == "gpu:1"
    with pytest.raises(DeviceError, match=f"there are {backend.gpu_count()} GPUs, counted from 0"):
        backend.to_gpu(x, f"gpu:{backend.gpu_count()}")


def test_the_default_device_may_be_the_second(two, monkeypatch):
    monkeypatch.setenv("GPUNN_DEVICE", "gpu:1")
    assert backend.default_device() == "gpu:1"
    assert backend.device_of(backend.asarray([1.0, 2.0])) == "gpu:1"


def test_contexts_switch_the_current_device(two):
    there = backend.to_gpu(np.ones(2), "gpu:1")
    with backend.use_device("gpu:1"):
        assert backend.device_of(two.ones(2)) == "gpu:1"
        with backend.use_device("cpu"):
            assert two.cuda.Device().id == 1
        with backend.use_device("gpu"):
            assert two.cuda.Device().id == 0
        assert two.cuda.Device().id == 1
    assert two.cuda.Device().id == 0
    with backend.device_context(there):
        assert two.cuda.Device().id == 1
    with backend.device_context(np.ones(2)):
        assert two.cuda.Device().id == 0


def test_a_dtype_changes_where_the_array_is(two):
    there = backend.to_gpu(np.arange(3.0), "gpu:1")
    for x in (backend.cast(there, np.float32), backend.asarray(there, dtype=np.float32)):
        assert (backend.device_of(x), x.dtype) == ("gpu:1", np.float32)
        np.testing.assert_array_equal(backend.to_cpu(x), [0, 1, 2])
    assert backend.device_of(backend.asarray([1.0], "gpu:1", np.float16)) == "gpu:1"


def streams_of_both(cupy, non_blocking):
    """Contexts for a stream on each of two devices."""
    streams = []
    for number in (0, 1):
        with cupy.cuda.Device(number):
            streams.append(cupy.cuda.Stream(non_blocking=True) if non_blocking else cupy.cuda.Stream.null)
    return streams


@pytest.mark.parametrize("non_blocking", [False, True])
def test_a_transfer_between_devices_comes_after_the_work_on_the_array(two, non_blocking):
    first, second = streams_of_both(two, non_blocking)
    with two.cuda.Device(1):
        second.use()
    try:
        with first:
            there = backend.to_gpu(pending(two, 3), "gpu:1")
            strided = backend.to_gpu(pending(two, 4)[::2], "gpu:1")
        with two.cuda.Device(1):
            np.testing.assert_array_equal(backend.to_cpu(there), np.full(SIZE, 3.0))
            np.testing.assert_array_equal(backend.to_cpu(strided), np.full(SIZE // 2, 4.0))
    finally:
        with two.cuda.Device(1):
            two.cuda.Stream.null.use()


@pytest.mark.parametrize("non_blocking", [False, True])
def test_a_transfer_between_devices_comes_before_the_memory_is_used_again(two, non_blocking):
    first, second = streams_of_both(two, non_blocking)
    with two.cuda.Device(1):
        second.use()
    try:
        with first:
            x = pending(two, 3)
            place = x.data.ptr
            there = backend.to_gpu(x, "gpu:1")
            del x
            other = two.full(SIZE, 9.0)
            assert other.data.ptr == place
            first.synchronize()
        np.testing.assert_array_equal(backend.to_cpu(there), np.full(SIZE, 3.0))
    finally:
        with two.cuda.Device(1):
            two.cuda.Stream.null.use()
