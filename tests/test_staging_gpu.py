"""Batches on their way to a GPU: what streams, events and pinned buffers must wait for.

On the emulated device in its late mode (README.md of gpunn/cuda/emulator) each missing wait gives wrong numbers.
"""

from typing import NamedTuple

import numpy as np
import pytest

from gpunn import backend
from gpunn.data.staging import staged

pytestmark = pytest.mark.gpu

SIZE = 5000


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def numbered(count):
    for n in range(count):
        yield np.full(SIZE, n + 1, np.float32)


def assert_numbered(arrays, factor=1):
    for n, x in enumerate(arrays):
        np.testing.assert_array_equal(backend.to_cpu(x), np.full(SIZE, factor * (n + 1), np.float32), err_msg=str(n))


def test_a_pinned_buffer_is_kept_until_it_was_read(cupy):
    assert_numbered(list(staged(numbered(6), "gpu:0")))


def in_streams(cupy):
    return [cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)]


def test_a_copy_waits_for_work_with_the_memory_that_it_gets(cupy):
    for stream in in_streams(cupy):
        with stream:
            doubled, places = [], set()
            for x in staged(numbered(6), "gpu:0"):
                places.add(x.data.ptr)
                doubled.append(x * 2)
                del x  # its memory is given to the next but one
            assert len(places) < 6
            assert_numbered(doubled, 2)


def test_a_copy_comes_before_what_is_done_with_it(cupy):
    for stream in in_streams(cupy):
        with stream:
            assert_numbered([x * 2 for x in staged(numbered(6), "gpu:0")], 2)


def test_no_copy_is_under_way_after_a_loop_that_was_left_early(cupy):
    closed = []

    def source():
        try:
            yield from numbered(6)
        finally:
            closed.append(True)

    given = source()
    batches = staged(given, "gpu:0")
    x = next(batches)
    batches.close()
    assert closed == [True]
    others = [cupy.zeros(SIZE, np.float32) for _ in range(4)]  # where the batch ahead was
    cupy.cuda.Device().synchronize()
    for y in others:
        np.testing.assert_array_equal(backend.to_cpu(y), np.zeros(SIZE))
    assert_numbered([x])


def test_what_goes_wrong_in_the_source_is_told_after_the_batches_before_it(cupy):
    def source():
        yield from numbered(2)
        raise KeyError("mine")

    batches = staged(source(), "gpu:0")
    assert_numbered([next(batches)])  # the second was one ahead
    with pytest.raises(KeyError, match="mine"):
        next(batches)


def test_batches_go_to_a_device_that_is_not_the_current_one(cupy):
    if backend.gpu_count() < 2:
        pytest.skip("one GPU")
    seen = []
    with cupy.cuda.Device(0):
        for x in staged(numbered(4), "gpu:1"):
            assert backend.device_of(x) == "gpu:1"
            assert cupy.cuda.Device().id == 0
            with cupy.cuda.Device(1):
                seen.append(x * 2)
    assert_numbered(seen, 2)
    copied = staged((cupy.asarray(x) for x in numbered(3)), "gpu:1")
    assert [backend.device_of(x) for x in copied] == ["gpu:1"] * 3


class Pair(NamedTuple):
    x: object
    label: object


def test_batches_of_every_form(cupy):
    there = cupy.arange(3)
    given = {
        "pair": Pair(np.arange(12.0).reshape(3, 4), np.arange(3)),
        "list": [np.zeros((0, 4), np.float32), "name", 7],
        "strided": np.arange(24, dtype=np.int16).reshape(4, 6)[:, ::-2],
        "transposed": np.arange(6, dtype=np.float16).reshape(2, 3).T,
        "scalar": np.array(3.5),
        "flags": np.array([True, False]),
        "there": there,
    }
    (got,) = staged((batch for batch in [given]), "gpu:0")
    assert type(got["pair"]) is Pair
    assert got["list"][1:] == ["name", 7]
    assert got["there"] is there
    arrays = [*got["pair"], got["list"][0], *(got[name] for name in ("strided", "transposed", "scalar", "flags"))]
    wanted = [*given["pair"], given["list"][0], *(given[name] for name in ("strided", "transposed", "scalar", "flags"))]
    for x, y in zip(arrays, wanted, strict=True):
        assert isinstance(x, cupy.ndarray)
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_array_equal(backend.to_cpu(x), y)


def test_batches_for_the_cpu_come_from_the_gpu(cupy):
    (got,) = staged((batch for batch in [{"x": cupy.arange(3), "y": np.arange(2)}]), "cpu")
    assert isinstance(got["x"], np.ndarray)
    np.testing.assert_array_equal(got["x"], [0, 1, 2])
