import os
import subprocess
import sys

import numpy as np
import pytest

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")

pytestmark = [pytest.mark.gpu, pytest.mark.slow]  # the quick calls of test_calls.py have some of each
ours = pytest.mark.skipif(device.running() is None, reason="looks at modules of the emulated device")

DTYPES = "bBhHiIlLefdFD"  # those that CUB is asked for
TOLERANCE = {"e": 4e-3, "f": 2e-6, "F": 4e-6, "d": 1e-13, "D": 1e-13}
SHAPES = [(1,), (2,), (31,), (4099,), (1, 1), (7, 13), (3, 5, 7), (2, 8209)]
OPERATIONS = ["sum", "prod", "min", "max", "argmin", "argmax"]


def values(dtype, shape, seed=0):
    """Small numbers with ties; of products, few that are not 1."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    x = rng.integers(0 if kind == "u" else -3, 4, shape).astype(dtype)
    if kind in "fc":
        x = (x + rng.standard_normal(shape).round(1)).astype(dtype)
    if kind == "c":
        x = (x + 1j * rng.integers(-2, 3, shape)).astype(dtype)
    return x


def factors(dtype, shape):
    rng = np.random.default_rng(5)
    return np.where(rng.random(shape) < 4 / max(1, np.prod(shape)), values(dtype, shape), 1).astype(dtype)


def reference(operation, x, axis, **keywords):
    """NumPy's, but sums of float16 are added up in float32."""
    if x.dtype == np.float16 and operation in ("sum", "prod"):
        return getattr(x.astype("f"), operation)(axis=axis, **keywords).astype("e")
    return getattr(x, operation)(axis=axis, **keywords)


def agrees(got, expected):
    expected = np.asarray(expected)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    scale = np.abs(expected[np.isfinite(expected)]).max(initial=1)
    tolerance = TOLERANCE.get(expected.dtype.char, 0)
    np.testing.assert_allclose(got.get(), expected, rtol=tolerance, atol=tolerance * 4 * float(scale))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_reductions_over_all_and_over_the_last_axes(operation, dtype, shape):
    x = factors(dtype, shape) if operation == "prod" else values(dtype, shape)
    on_device = cupy.asarray(x)
    axes = [None, -1] if operation.startswith("arg") else [None, -1, tuple(range(1, x.ndim)) or None]
    for axis in axes:
        agrees(getattr(on_device, operation)(axis=axis), reference(operation, x, axis))


@pytest.mark.parametrize("dtype", "lefF")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_reductions_over_every_axis_in_both_orders(operation, dtype):
    x = factors(dtype, (3, 5, 7)) if operation == "prod" else values(dtype, (3, 5, 7))
    axes = [None, 0, 1, 2] if operation.startswith("arg") else [None, 0, 1, 2, (0, 1), (1, 2), (0, 2), (2, 0)]
    for order in "CF":
        on_device = cupy.asarray(x, order=order)
        for axis in axes:
            agrees(getattr(on_device, operation)(axis=axis), reference(operation, x, axis))
            agrees(
                getattr(on_device, operation)(axis=axis, keepdims=True), reference(operation, x, axis, keepdims=True)
            )


@pytest.mark.parametrize("operation", OPERATIONS)
def test_reductions_of_views(operation):
    x = values("f", (8, 9))
    on_device = cupy.asarray(x)
    for view in (np.s_[::2], np.s_[:, 1:], np.s_[::-1], np.s_[3], np.s_[:, 2]):
        for axis in (None, 0, -1):
            agrees(getattr(on_device[view], operation)(axis=axis), reference(operation, x[view], axis))


@pytest.mark.parametrize("dtype", "?bief")
def test_reductions_of_nothing(dtype):
    for shape, axis in [((0,), None), ((0,), 0), ((3, 0), 1), ((3, 0), None), ((0, 3), 0), ((0, 3), 1)]:
        x = np.empty(shape, dtype)
        for operation in ("sum", "prod"):
            agrees(getattr(cupy.asarray(x), operation)(axis=axis), getattr(x, operation)(axis=axis))
        for operation in ("min", "max", "argmin", "argmax"):
            if axis is not None and x.shape[axis]:
                agrees(getattr(cupy.asarray(x), operation)(axis=axis), getattr(x, operation)(axis=axis))
            else:
                with pytest.raises(ValueError, match="zero-size array|empty sequence"):
                    getattr(cupy.asarray(x), operation)(axis=axis)


@pytest.mark.parametrize("dtype", "efdFD")
@pytest.mark.parametrize("operation", ["min", "max", "argmin", "argmax"])
def test_nan_is_the_least_and_the_greatest(operation, dtype):
    for places in ([0], [40], [17, 18], [4000], [3, 4000]):
        x = values(dtype, 4099)
        x[places] = np.nan
        np.testing.assert_array_equal(getattr(cupy.asarray(x), operation)().get(), getattr(x, operation)())


@pytest.mark.parametrize("dtype", "fdFD")
def test_products_too_large_are_numpys(dtype):
    x = np.full((4, 40), 1e9 if dtype in "fd" else 1e9 + 3e9j, dtype) * np.where(np.arange(40) % 3, 1, -1)
    x = (x * np.finfo(dtype).max ** 0.2).astype(dtype)
    with np.errstate(all="ignore"):
        expected = x.prod(1)
    np.testing.assert_array_equal(np.isnan(cupy.asarray(x).prod(1).get()), np.isnan(expected))


@pytest.mark.parametrize("dtype", "efd")
def test_sums_and_products_of_what_is_not_finite(dtype):
    for special in ([np.inf], [np.nan], [np.inf, -np.inf], [-np.inf]):
        x = np.ones(99, dtype)
        x[3 : 3 + len(special)] = special
        with np.errstate(invalid="ignore"):
            expected = x.sum(), x.prod()
        np.testing.assert_array_equal(cupy.asarray(x).sum().get(), expected[0])
        np.testing.assert_array_equal(cupy.asarray(x).prod().get(), expected[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_first_of_equal_ones_is_found(dtype):
    x = np.ones(4099, dtype)
    x[[70, 900, 4098]] = 2
    x[[99, 1000]] = 0
    on_device = cupy.asarray(x)
    assert (int(on_device.argmax()), int(on_device.argmin())) == (70, 99)
    assert int(cupy.asarray(np.ones(777, dtype)).argmax()) == 0


@pytest.mark.parametrize("dtype", "bBhHiIlL")
def test_whole_numbers_wrap_around(dtype):
    info = np.iinfo(dtype)
    x = np.array([info.max, info.max, 3, info.min, info.max], dtype)
    on_device = cupy.asarray(x)
    for operation in OPERATIONS:
        agrees(getattr(on_device, operation)(), getattr(x, operation)())
    agrees(on_device.cumsum(), x.cumsum())
    agrees(on_device.cumprod(), x.cumprod())


def test_sums_of_float16_do_not_stop_at_2048():
    x = cupy.asarray(np.ones(3000, "e"))
    np.testing.assert_allclose(float(x.sum()), 3000, rtol=2e-3)
    assert float(cupy.asarray(np.full(70000, 1, "e")).sum()) == np.inf


def test_sums_of_many_float32_are_close():
    x = np.random.default_rng(0).random(1_000_003).astype("f")
    np.testing.assert_allclose(float(cupy.asarray(x).sum()), x.sum(dtype="d"), rtol=1e-6)


def test_the_same_sum_twice():
    x = np.random.default_rng(0).standard_normal(100_003).astype("f")
    first, elsewhere = cupy.asarray(x), cupy.asarray(x)
    assert float(first.sum()) == float(first.sum()) == float(elsewhere.sum())


def test_results_go_where_they_are_told():
    x = values("f", (6, 7))
    on_device = cupy.asarray(x)
    for axis, keepdims, out in [
        (None, False, cupy.empty((), "f")),
        (1, False, cupy.empty(6, "f")),
        (1, True, cupy.empty((6, 1), "f")),
        (1, False, cupy.empty(12, "f")[::2]),
        (0, False, cupy.empty(7, "f")),
    ]:
        assert on_device.max(axis=axis, out=out, keepdims=keepdims) is out
        np.testing.assert_array_equal(out.get(), x.max(axis=axis, keepdims=keepdims))
    with pytest.raises(ValueError, match="output"):
        on_device.sum(axis=1, out=cupy.empty(5, "f"))
    with pytest.raises(ValueError, match="output"):
        on_device.sum(axis=1, out=cupy.empty((6, 1), "f"))


def test_wrong_axes_are_refused():
    x = cupy.asarray(values("f", (6, 7)))
    with pytest.raises(np.exceptions.AxisError):
        x.sum(axis=2)
    with pytest.raises(ValueError, match="duplicate"):
        x.sum(axis=(1, 1))


@pytest.mark.parametrize("dtype", "lfd")
def test_sums_in_another_type(dtype):
    x = values("i", 999)
    agrees(cupy.asarray(x).sum(dtype=dtype), x.sum(dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (1,), (4099,), (6, 7)], ids=str)
def test_running_sums_and_products(dtype, shape):
    x, y = values(dtype, shape), factors(dtype, shape)
    wide = "f" if dtype == "e" else None
    narrow = (lambda a: a.astype("e")) if dtype == "e" else (lambda a: a)
    agrees(cupy.cumsum(cupy.asarray(x)), narrow(np.cumsum(x, dtype=wide)))
    agrees(cupy.cumprod(cupy.asarray(y)), narrow(np.cumprod(y, dtype=wide)))
    np.testing.assert_array_equal(cupy.cumsum(cupy.asarray(x)).get()[:1], x.ravel()[:1])


def test_running_sums_along_axes_and_of_views():
    x = values("l", (6, 7))
    on_device = cupy.asarray(x)
    for axis in (None, 0, 1):
        agrees(cupy.cumsum(on_device, axis=axis), np.cumsum(x, axis=axis))
        agrees(cupy.cumsum(on_device.T[::2], axis=axis), np.cumsum(x.T[::2], axis=axis))
    np.testing.assert_array_equal(on_device.get(), x)


@pytest.mark.parametrize("dtype", "bBiLefd")
def test_histograms(dtype):
    x = values(dtype, 4099)
    for bins in (1, 7, np.array([0, 1, 1.5, 2.5, 3], "d"), np.array([0, 1, 2, 3], dtype)):
        on_device = cupy.asarray(bins) if isinstance(bins, np.ndarray) else bins
        counts, edges = cupy.histogram(cupy.asarray(x), on_device)
        edges_as_cupy_has_them = edges.get().astype("d")
        expected, _ = np.histogram(x.astype("d"), edges_as_cupy_has_them)
        assert counts.dtype == np.int64
        if isinstance(bins, np.ndarray) or dtype == "d":
            np.testing.assert_array_equal(counts.get(), expected)
        else:
            assert int(counts.sum()) == x.size
            np.testing.assert_allclose(counts.get(), expected, atol=300 if bins > 1 else 0)


def test_histograms_leave_out_what_lies_outside():
    x = np.array([-1, 0, 0.5, 1, 2, 2.5, np.nan, np.inf, -np.inf, 3], "f")
    counts, _ = cupy.histogram(cupy.asarray(x), cupy.asarray([0, 1, 2.5], dtype="f"))
    assert counts.get().tolist() == [2, 3]
    assert cupy.histogram(cupy.asarray(x[:0]), cupy.asarray([0, 1, 2.5], dtype="f"))[0].get().tolist() == [0, 0]


@pytest.mark.parametrize("dtype", "BHiIl")
def test_bincount(dtype):
    x = np.random.default_rng(0).integers(0, 40, 2003).astype(dtype)
    agrees(cupy.bincount(cupy.asarray(x)), np.bincount(x))
    agrees(cupy.bincount(cupy.asarray(x), minlength=61), np.bincount(x, minlength=61))
    agrees(cupy.bincount(cupy.asarray(x[:1])), np.bincount(x[:1]))


@ours
def test_what_lies_together_is_reduced_by_cub_and_the_rest_is_left_to_cupy():
    cub = cupy.cuda.cub
    assert cupy._core.get_routine_accelerators() == [1]  # CUB
    x = cupy.asarray(values("f", (3, 5, 7)))
    taken = {axis: cub.cub_reduction(x, cub.CUPY_CUB_SUM, axis) for axis in (None, 0, 1, 2, (1, 2), (0, 2))}
    assert [axis for axis, got in taken.items() if got is not None] == [None, 2, (1, 2)]
    assert cub.cub_reduction(cupy.asarray(x, order="F"), cub.CUPY_CUB_SUM, 0).flags.f_contiguous
    assert cub.cub_reduction(x[:, ::2], cub.CUPY_CUB_SUM) is None
    assert cub.cub_reduction(x, cub.CUPY_CUB_ARGMAX, 2) is None
    assert cub.cub_reduction(x > 0, cub.CUPY_CUB_MAX) is None
    assert cub.cub_reduction(x, cub.CUPY_CUB_SUM, None, np.float64) is None
    assert cub.cub_scan(x, cub.CUPY_CUB_SUM) is None
    with pytest.raises(ValueError, match="only CUPY_CUB_SUM"):
        cub.cub_reduction(x, cub.CUPY_CUB_CUMSUM)


@ours
def test_histograms_of_what_cub_does_not_count_are_refused():
    cub, counts = cupy.cuda.cub, cupy.zeros(4, np.int64)
    x = cupy.asarray(values("f", 9))
    with pytest.raises(ValueError, match="only integer input"):
        cub.device_histogram(x, counts, 5)
    with pytest.raises(ValueError, match="the edges of bins are float64"):
        cub.device_histogram(x, counts, cupy.zeros(5))
    with pytest.raises(ValueError, match="counts are"):
        cub.device_histogram(x, cupy.zeros(4), cupy.zeros(5, "f"))
    with pytest.raises(RuntimeError, match="complex dtype is not yet supported"):
        cub.device_histogram(x.astype("F"), counts, cupy.zeros(5, "F"))


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
total, running, place = cupy.full((), -1, "f"), cupy.full(100, -1, "f"), cupy.full((), -1)
cupy.cuda.Device().synchronize()
stream = cupy.cuda.Stream(non_blocking=True)
with stream:
    x *= -1
    x.sum(out=total)
    cupy.cumsum(x, out=running)
    x[3] = 1
    x.argmax(out=place)
    x[3] = 0
kept = lies_there(x), lies_there(total), lies_there(running), lies_there(place)
assert kept[0].tolist() == list(range(100)), "not visible yet"
assert {each for array in kept[1:] for each in array.tolist()} == {-1}, "not visible yet"
stream.synchronize()
assert lies_there(total) == [-4950]
assert lies_there(running).tolist() == np.cumsum(-np.arange(100)).tolist()
assert lies_there(place) == [3]
"""


@ours
def test_late_reductions_are_in_the_order_of_their_stream():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", LATE], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
