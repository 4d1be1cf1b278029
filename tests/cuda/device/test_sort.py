import os
import subprocess
import sys

import numpy as np
import pytest

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")

pytestmark = pytest.mark.gpu
ours = pytest.mark.skipif(device.running() is None, reason="looks at modules of the emulated device")

DTYPES = "?bBhHiIlLefdFD"
SHAPES = [(0,), (1,), (2,), (97,), (4, 0), (1, 1), (13, 31), (3, 5, 7)]


def values(dtype, shape, seed=0, special=()):
    """Few different ones, so that there are ties."""
    rng = np.random.default_rng(seed)
    if dtype == "?":
        return rng.random(shape) < 0.5
    numbers = rng.integers(0, 9, shape)
    if np.dtype(dtype).kind != "u":
        numbers = numbers - 4
    numbers = numbers.astype(dtype)
    if numbers.dtype.kind == "c":
        numbers += 1j * rng.integers(-2, 3, shape)
    if len(special):
        numbers = np.where(rng.random(shape) < 0.3, rng.choice(np.array(special, dtype), shape), numbers)
    return numbers


def axes(shape):
    return [None, *range(-1, len(shape) - 1)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sort_and_argsort_are_numpy_s_stable_ones(dtype, shape):
    x = values(dtype, shape)
    on_device = cupy.asarray(x)
    for axis in axes(shape):
        got = cupy.sort(on_device, axis=axis)
        assert got.dtype == x.dtype
        np.testing.assert_array_equal(got.get(), np.sort(x, axis=axis, kind="stable"))
        places = cupy.argsort(on_device, axis=axis)
        assert places.dtype == np.intp
        np.testing.assert_array_equal(places.get(), np.argsort(x, axis=axis, kind="stable"))
    np.testing.assert_array_equal(on_device.get(), x)  # which nothing sorts in place


@pytest.mark.parametrize("dtype", "efd")
def test_nan_is_sorted_to_the_end(dtype):
    x = values(dtype, (7, 61), special=[np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(cupy.sort(cupy.asarray(x)).get(), np.sort(x, kind="stable"))
    np.testing.assert_array_equal(cupy.argsort(cupy.asarray(x)).get(), np.argsort(x, kind="stable"))


@ours
@pytest.mark.parametrize("dtype", "FD")
def test_complex_numbers_with_nan_are_in_numpy_s_order(dtype):
    parts = [np.nan, 1, 0, np.nan, np.inf, -1]
    x = np.array([complex(a, b) for a in parts for b in parts], dtype)
    x = np.random.default_rng(1).permutation(np.concatenate([x, x]))
    np.testing.assert_array_equal(cupy.argsort(cupy.asarray(x)).get(), np.argsort(x, kind="stable"))
    got, expected = cupy.sort(cupy.asarray(x)).get(), np.sort(x, kind="stable")
    np.testing.assert_array_equal(got.real, expected.real)
    np.testing.assert_array_equal(got.imag, expected.imag)


@ours
@pytest.mark.parametrize("dtype", "efd")
def test_zeros_of_both_signs_are_ties(dtype):
    x = values(dtype, 101, special=[0.0, -0.0])
    got = cupy.sort(cupy.asarray(x)).get()
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.sort(x, kind="stable")))
    assert len(set(np.signbit(got[got == 0]))) == 2
    np.testing.assert_array_equal(cupy.argsort(cupy.asarray(x)).get(), np.argsort(x, kind="stable"))


@pytest.mark.parametrize("dtype", "bLef")
def test_the_extremes_of_a_type(dtype):
    info = np.finfo(dtype) if dtype in "efd" else np.iinfo(dtype)
    x = np.array([info.max, 0, info.min, info.max, 1, info.min], dtype)
    if dtype in "ef":
        x = np.append(x, [info.smallest_subnormal, -info.smallest_subnormal, info.tiny])
        x = x.astype(dtype)
    np.testing.assert_array_equal(cupy.sort(cupy.asarray(x)).get(), np.sort(x))
    np.testing.assert_array_equal(cupy.argsort(cupy.asarray(x)).get(), np.argsort(x, kind="stable"))


def test_arrays_that_do_not_lie_in_one_piece():
    x = values("f", (12, 14))
    on_device = cupy.asarray(x)
    for view in (np.s_[::2], np.s_[:, ::3], np.s_[::-1, ::-1], np.s_[1:, 1]):
        np.testing.assert_array_equal(cupy.sort(on_device[view], axis=0).get(), np.sort(x[view], axis=0))
        np.testing.assert_array_equal(
            cupy.argsort(on_device[view], axis=0).get(), np.argsort(x[view], axis=0, kind="stable")
        )
    np.testing.assert_array_equal(cupy.sort(on_device.T).get(), np.sort(x.T))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sort_in_place(axis):
    x = values("i", (9, 11))
    on_device = cupy.asarray(x)
    on_device.sort(axis=axis)
    x.sort(axis=axis)
    np.testing.assert_array_equal(on_device.get(), x)


def test_what_is_made_of_sorts():
    x = values("f", 101, special=[7.5])
    on_device = cupy.asarray(x)
    for got, expected in zip(cupy.unique(on_device, True, True, True), np.unique(x, True, True, True), strict=True):
        np.testing.assert_array_equal(got.get(), expected)
    np.testing.assert_array_equal(cupy.partition(on_device, 17).get()[17], np.sort(x)[17])
    assert cupy.median(on_device) == np.median(x)


@pytest.mark.parametrize("k", [0, 2, 20, 100, -1])
@pytest.mark.parametrize("shape", [(20000,), (3, 1000)], ids=str)
def test_partitions_of_many(shape, k):
    x = values("f", shape)
    on_device, place = cupy.asarray(x), k % shape[-1]
    for part in (cupy.partition(on_device, k).get(), np.take_along_axis(x, cupy.argpartition(on_device, k).get(), -1)):
        np.testing.assert_array_equal(np.sort(part), np.sort(x))
        assert (part[..., :place] <= part[..., place, None]).all()
        assert (part[..., place:] >= part[..., place, None]).all()


@pytest.mark.parametrize("dtype", "?bHlefdFD")
@pytest.mark.parametrize("shape", [(1, 1), (1, 23), (3, 97), (4, 0)], ids=str)
def test_lexsort(dtype, shape):
    keys = values(dtype, shape, special=[np.nan] if dtype in "efd" else [])
    got = cupy.lexsort(cupy.asarray(keys))
    assert got.dtype == np.intp
    np.testing.assert_array_equal(got.get(), np.lexsort(keys))


@ours
def test_bfloat16_is_sorted_and_other_types_are_refused():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = values("f", (3, 20), special=[np.nan, -np.inf]).astype(ml_dtypes.bfloat16)
    bits, places = cupy.asarray(x.view(np.uint16)), cupy.empty(x.shape, np.int64)
    cupy.cuda.thrust.argsort(x.dtype, places.data.ptr, bits.data.ptr, 0, x.shape)
    expected = np.argsort(x.astype("f"), kind="stable")
    np.testing.assert_array_equal(places.get(), expected)
    sorted_values = bits.get().view(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(sorted_values.astype("f"), np.sort(x.astype("f")))
    np.testing.assert_array_equal(cupy.sort(cupy.asarray(x)).get().astype("f"), np.sort(x.astype("f")))
    np.testing.assert_array_equal(cupy.argsort(cupy.asarray(x)).get(), expected)
    with pytest.raises(NotImplementedError, match=r"the emulated device does not serve sort of datetime64"):
        cupy.cuda.thrust.sort(np.dtype("M8[s]"), places.data.ptr, 0, (3,))


@ours
@pytest.mark.filterwarnings("ignore:jitify:DeprecationWarning")
def test_jitify_is_refused_in_words():
    with pytest.raises(NotImplementedError, match="does not serve Jitify"):
        cupy.RawModule(code='extern "C" __global__ void f() {}', jitify=True).get_function("f")
    with pytest.raises(NotImplementedError, match="does not serve Jitify"):
        cupy.cuda.jitify.jitify("f\n", ())


@ours
def test_a_captured_graph_sorts_and_reduces_whenever_it_is_launched():
    x, total, rng = cupy.zeros(50, "f"), cupy.zeros((), "f"), cupy.random.default_rng(2)
    drawn = cupy.zeros(50, "f")
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        x.sort()
        x.sum(out=total)
        rng.random(dtype="f", out=drawn)
        graph = stream.end_capture()
        assert not drawn.get().any()
        seen = set()
        for seed in range(3):
            numbers = values("f", 50, seed)
            x.set(numbers)
            graph.launch()
            np.testing.assert_array_equal(x.get(), np.sort(numbers))
            assert total.get() == numbers.sum()
            seen.add(tuple(drawn.get().tolist()))
    assert len(seen) == 3


LATE = """
import ctypes
import numpy as np
from gpunn.cuda import device
device.start(device.Settings(late=True))
import cupy

def lies_there(array):
    memory = (ctypes.c_char * array.nbytes).from_address(array.data.ptr)
    return np.frombuffer(memory, array.dtype).copy()

x = cupy.arange(100, dtype="f")
places = cupy.full(100, -1)
cupy.cuda.Device().synchronize()
stream = cupy.cuda.Stream(non_blocking=True)
with stream:
    x *= -1
    x.sort()
    x += 1000
    places[...] = cupy.argsort(-x)
assert lies_there(x).tolist() == list(range(100)), "not visible yet"
assert (lies_there(places) == -1).all(), "not visible yet"
stream.synchronize()
assert lies_there(x).tolist() == list(range(901, 1001)), lies_there(x)
assert lies_there(places).tolist() == list(range(99, -1, -1))
"""


@ours
def test_late_sorts_are_in_the_order_of_their_stream():
    run(LATE)


def run(script):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
