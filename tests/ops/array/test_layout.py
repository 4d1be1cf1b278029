"""Elements elsewhere: against loops over their places, and against PyTorch."""

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import tensor
from gpunn.errors import ArgumentError, DtypeError, IndexRangeError, ShapeError


def by_place(shape, element):
    """An array of ``shape`` of what ``element`` gives of each place."""
    y = np.empty(shape)
    for place in np.ndindex(shape):
        y[place] = element(*place)
    return y


X = np.random.default_rng(0).standard_normal((3, 4))
INDEX = np.array([[2, 0, 1, 2], [0, 0, 2, 1]])
LOOPS = {
    "tril": (lambda x: F.tril(x, 1), lambda: by_place((3, 4), lambda i, j: X[i, j] if j <= i + 1 else 0)),
    "triu": (lambda x: F.triu(x, -1), lambda: by_place((3, 4), lambda i, j: X[i, j] if j >= i - 1 else 0)),
    "flip": (lambda x: F.flip(x, (0, 1)), lambda: by_place((3, 4), lambda i, j: X[2 - i, 3 - j])),
    "roll": (lambda x: F.roll(x, (1, -2), (0, 1)), lambda: by_place((3, 4), lambda i, j: X[i - 1, (j + 2) % 4])),
    "roll, flat": (lambda x: F.roll(x, 5), lambda: by_place((3, 4), lambda i, j: X.flat[4 * i + j - 5])),
    "diagonal": (lambda x: F.diagonal(x, 1), lambda: by_place((3,), lambda i: X[i, i + 1])),
    "diagonal, below": (lambda x: F.diagonal(x, -2), lambda: by_place((1,), lambda i: X[i + 2, i])),
    "trace": (F.trace, lambda: by_place((), lambda: sum(X[i, i] for i in range(3)))),
    "tile": (lambda x: F.tile(x, (2, 1, 3)), lambda: by_place((2, 3, 12), lambda _, i, j: X[i, j % 4])),
    "broadcast_to": (lambda x: F.broadcast_to(x, (2, 3, 4)), lambda: by_place((2, 3, 4), lambda _, i, j: X[i, j])),
    "movedim": (lambda x: F.movedim(x[None], 0, -1), lambda: by_place((3, 4, 1), lambda i, j, _: X[i, j])),
    "masked_fill": (
        lambda x: F.masked_fill(x, x > 0, 7.0), lambda: by_place((3, 4), lambda i, j: 7 if X[i, j] > 0 else X[i, j])),
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
def test_elements_are_where_they_belong(run_xp, name):
    function, expected = LOOPS[name]
    for dtype in (np.float64, np.float16):
        x = X.astype(dtype)
        y = run_xp(function, x)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected().astype(dtype), rtol=4 * np.finfo(dtype).eps)


def test_gathered_and_scattered(run_xp):
    src = np.arange(8.0).reshape(2, 4)
    expected = by_place((2, 4), lambda i, j: X[INDEX[i, j], j])
    np.testing.assert_array_equal(run_xp(lambda x, n: F.gather(x, 0, n), X, INDEX), expected)
    put, added = X.copy(), X.copy()
    for i, j in np.ndindex(2, 4):
        put[INDEX[i, j], j] = src[i, j]
        added[INDEX[i, j], j] += src[i, j]
    np.testing.assert_array_equal(run_xp(lambda x, n, s: F.scatter(x, 0, n, s), X, INDEX[:1], src), _put(X, src))
    np.testing.assert_array_equal(F.scatter(X, 0, INDEX, src), put)
    np.testing.assert_array_equal(F.scatter(X, 0, INDEX, value=9.0), np.where(put == X, X, 9.0))
    np.testing.assert_allclose(run_xp(lambda x, n, s: F.scatter_add(x, 0, n, s), X, INDEX, src), added)
    np.testing.assert_array_equal(run_xp(lambda x, n: F.index_select(x, 1, n), X, np.array([3, 0])), X[:, [3, 0]])
    np.testing.assert_array_equal(run_xp(lambda x: F.masked_select(x, x > 0), X), X[X > 0])
    ones = np.full((1, 1), 1 / 3, np.float16)
    many = F.scatter_add(ones, 0, np.zeros((1000, 1), int), np.full((1000, 1), 1 / 3, np.float16))
    assert abs(many.item() - 1001 / 3) < 0.5  # one by one in float16 it would be 256


def _put(x, src):
    y = x.copy()
    for j in range(4):
        y[INDEX[0, j], j] = src[0, j]
    return y


def test_filled(run_xp):
    x = np.ones((2, 3), np.float32)
    assert run_xp(lambda a: F.full_like(a, 7), x).tolist() == [[7] * 3] * 2
    assert (F.zeros_like(tensor(x)).dtype, F.ones_like(x, dtype=np.int64).dtype) == (np.float32, np.int64)
    for name in ("rand_like", "randn_like"):
        a, b = (getattr(F, name)(x, generator=np.random.Generator(np.random.Philox(3))) for _ in range(2))
        np.testing.assert_array_equal(a, b)
        assert getattr(F, name)(tensor(x), np.float64).dtype == np.float64


def test_pieces_are_views():
    x = tensor(X.copy())
    assert [piece.shape for piece in F.chunk(x, 3, 1)] == [(3, 2), (3, 2)]
    assert [piece.shape for piece in F.chunk(x, 2, 1)] == [(3, 2), (3, 2)]
    assert [piece.shape for piece in F.chunk(x[:0], 2)] == [(0, 4), (0, 4)]
    F.unbind(x, 1)[2][...] = 5
    assert x[:, 2].tolist() == [5, 5, 5]


def test_errors_name_rule_and_values():
    n = INDEX
    for call, kind, message in (
        (lambda: F.gather(X, 0, n + 3), IndexRangeError, "gather: each index must lie on the axis, got index=5"),
        (lambda: F.gather(X, 1, n.repeat(2, 0)), ShapeError, "gather: indices must have the axes of x, none longer"),
        (lambda: F.gather(X, 0, X), DtypeError, "gather: indices must be integers, got dtype='float64'"),
        (lambda: F.scatter(X, 0, n, X[:1]), ShapeError, r"indices must fit into src, got indices=\(2, 4\), src="),
        (lambda: F.scatter(X, 0, n, X.astype("f4")), DtypeError, "scatter: arrays must have one dtype"),
        (lambda: F.index_select(X, 0, n), ShapeError, r"index_select: indices must be a vector, got shape=\(2, 4\)"),
        (lambda: F.masked_select(X, X), DtypeError, "masked_select: mask must hold booleans, got dtype='float64'"),
        (lambda: F.masked_fill(X, X > 0, X), ShapeError, "masked_fill: value must be one number"),
        (lambda: F.tril(X[0]), ShapeError, r"tril: x must have two axes at least, got shape=\(4,\)"),
        (lambda: F.roll(X, (1, 2), 0), ArgumentError, "roll: each axis needs a shift"),
        (lambda: F.flip(X, None), ArgumentError, "flip: axis must be an axis, or several, got axis=None"),
        (lambda: F.chunk(X, 0), ArgumentError, "chunk: chunks must be an integer of at least 1, got chunks=0"),
        (lambda: F.movedim(X, (0, 1), 0), ArgumentError, "movedim: each axis needs a place"),
        (lambda: F.dot(X, X), ShapeError, r"dot: a must be a vector, got shape=\(3, 4\)"),
        (lambda: F.dot(X[0], X[0, :2]), ShapeError, r"dot: both must have one length, got a=\(4,\), b=\(2,\)"),
        (lambda: F.cross(X, X), ShapeError, "cross: the axis must have size 3"),
        (lambda: F.trace(X[0]), ShapeError, r"trace: x must be a matrix, got shape=\(4,\)"),
        (lambda: F.rand_like(n), DtypeError, "rand_like: the dtype must be a floating one, got dtype='int64'"),
        (lambda: F.tile(X, (1, -1)), ArgumentError, "tile: reps must be an integer of at least 0"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            call()
