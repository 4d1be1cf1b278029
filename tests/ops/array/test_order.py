"""Sorting, the largest few, places in a sorted vector, running products, norms: against Python and PyTorch."""

import math

import ml_dtypes
import numpy as np
import pytest

from gpunn import functional as F
from gpunn import tensor
from gpunn.errors import ArgumentError, DtypeError, IndexRangeError, ShapeError


def ordered(values, descending=False):
    """The indices that sort a list: NaN is the largest, equal ones keep their order."""
    keys = [math.inf if math.isnan(v) else v for v in values]
    return sorted(range(len(keys)), key=lambda i: -keys[i] if descending else keys[i])


@pytest.mark.parametrize("descending", [False, True])
def test_sorting_is_pythons(run_xp, rng, descending):
    for dtype in (np.float64, np.float16, np.int32, np.uint8):
        x = rng.integers(0, 4, (3, 6, 2)).astype(dtype)
        if x.dtype.kind == "f":
            x[0, 2:4, 1] = np.nan
        values, indices = run_xp(lambda a: F.sort(a, 1, descending), x)
        expected = np.apply_along_axis(lambda row: ordered(row.tolist(), descending), 1, x)
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(x, expected, 1))
        np.testing.assert_array_equal(run_xp(lambda a: F.argsort(a, 1, descending), x), expected)
        top, places = run_xp(lambda a: F.topk(a, 2, 1, descending), x)
        np.testing.assert_array_equal(places, expected[:, :2])
        np.testing.assert_array_equal(top, values[:, :2])
    assert [a.tolist() for a in F.sort(np.array(3.0))] == [3, 0]


@pytest.mark.parametrize("right", [False, True])
def test_places_in_rows_are_those_in_each_row(run_xp, rng, right):
    rows, values = np.sort(rng.integers(0, 5, (2, 3, 6)), -1).astype(float), rng.integers(0, 6, (2, 3, 4)).astype(float)
    values[0, 0, 0] = np.nan
    found = run_xp(lambda x, v: F.searchsorted(x, v, right=right), rows, values)
    for place in np.ndindex(2, 3):
        expected = np.searchsorted(rows[place], values[place], "right" if right else "left")
        np.testing.assert_array_equal(found[place], expected)
        np.testing.assert_array_equal(
            F.searchsorted(rows[place], values[place], side="right" if right else None), expected
        )
    unsorted = np.array([3.0, 1.0, 2.0])
    assert F.searchsorted(unsorted, 2.5, sorter=np.argsort(unsorted), out_int32=True).item() == 2
    whole = np.array([1, 2, 3], np.uint8)
    for number, expected in ((1.5, 1), (2, 1), (300, 3), (-1, 0), (math.inf, 3)):
        assert run_xp(lambda x, number=number: F.searchsorted(x, number), whole).item() == expected
    halves = [np.array(each, ml_dtypes.bfloat16) for each in ([1.0, 2.0, np.nan], [np.nan, 1.5, 5.0])]
    assert run_xp(F.searchsorted, *halves).tolist() == [2, 1, 2]


def test_products_go_through_zeros(run_xp):
    """One 0, two, and none, forward and backward, against the products of the others written out."""
    for values in ([2.0, 0.0, 3.0, 5.0], [2.0, 0.0, 3.0, 0.0], [0.0, 0.0, 0.0], [4.0, 0.5]):
        x, n = np.array(values), len(values)
        g = np.arange(1.0, n + 1)

        def gradient(a, g=g):
            leaf = tensor(a, requires_grad=True)
            F.cumprod(leaf, 0).backward(g)
            return leaf.grad

        expected = [sum(g[i] * np.prod(np.delete(x[: i + 1], j)) for i in range(j, n)) for j in range(n)]
        np.testing.assert_allclose(run_xp(gradient, x, g), expected)
        np.testing.assert_allclose(run_xp(lambda a: F.cumprod(a, 0), x), np.cumprod(x))


def test_norms(run_xp):
    x = np.array([[3.0, -4.0], [0.0, 0.0]])
    for p, expected in (
        (2, [5, 0]),
        (1, [7, 0]),
        (math.inf, [4, 0]),
        (-math.inf, [3, 0]),
        (0, [2, 0]),
        ("fro", [5, 0]),
    ):
        np.testing.assert_allclose(run_xp(lambda a, p=p: F.norm(a, p, 1), x), expected)
    assert F.norm(np.float32([3e30, 4e30])) == np.float32(5e30)
    leaf = tensor(x, requires_grad=True)
    F.norm(leaf, 2, 1).sum().backward()
    np.testing.assert_allclose(leaf.grad, [[0.6, -0.8], [0, 0]])


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    for call, kind, message in (
        (lambda: F.topk(x, 4), ArgumentError, "topk: k must be at most the size of the axis, got k=4, size=3"),
        (lambda: F.topk(x, -1), ArgumentError, "topk: k must be an integer of at least 0, got k=-1"),
        (lambda: F.sort(x, 2), ShapeError, r"sort: axis must be one of x's, got axis=2, shape=\(2, 3\)"),
        (lambda: F.norm(x, math.nan), ArgumentError, "norm: p must be a number, got p=nan"),
        (lambda: F.norm(x[:0], math.inf), ShapeError, "norm: there must be elements, got p=inf"),
        (lambda: F.mean(x.astype(int)), DtypeError, "mean: x must hold floats, or dtype say so, got dtype='int64'"),
        (lambda: F.cumsum(x, None), ArgumentError, "cumsum: an axis must be given"),
        (lambda: F.std(x, unbiased=2), ArgumentError, "std: unbiased must be True or False, got unbiased=2"),
        (lambda: F.var(x, correction="1"), ArgumentError, "var: correction must be a number, got correction='1'"),
        (lambda: F.searchsorted(x, x[:1]), ShapeError, "searchsorted: x must be a vector, or have rows for those of v"),
        (lambda: F.searchsorted(x[0], x.astype(np.float32)), DtypeError, "searchsorted: both must have one dtype"),
        (lambda: F.searchsorted(x[0], x, right=True, side="left"), ArgumentError, "right and side must not differ"),
        (
            lambda: F.searchsorted(x[0], x, side="middle"),
            ArgumentError,
            'side is "left" or "right", got side=\'middle\'',
        ),
        (lambda: F.searchsorted(x[0], x, sorter=x[0]), DtypeError, "searchsorted: sorter must hold integers"),
        (lambda: F.searchsorted(x[0], x, sorter=x), ShapeError, "searchsorted: sorter must have the shape of x"),
        (lambda: F.searchsorted(x[0], x, sorter=np.array([0, 1, 9])[: x.shape[1]]), IndexRangeError, "got index=9"),
        (lambda: F.cumsum(x, 0, dtype="real"), DtypeError, "cumsum: a dtype must be one of NumPy's, of numbers"),
    ):
        with pytest.raises(kind, match=message):
            call()
