"""Indexing: the gradient of ``x[index]``, elements taken along an axis, rows put elsewhere, and classes as vectors.

``pick`` takes rows of which none is named twice, so its gradient is a plain assignment; ``place`` is its inverse, where
both name every row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, asarray, check_array, device_of, get_array_module, is_array
from gpunn.errors import ArgumentError, DtypeError, GpunnError, IndexRangeError, check
from gpunn.ops.array.shape import axis_of
from gpunn.ops.shared.checks import integer


def scatter(g: Array, shape: tuple[int, ...], index: Any) -> Array:
    """The gradient of ``x[index]``: zeros of ``shape`` with ``g`` added, as often as the index names an element.

    Arrays of integers may name an element several times; on CuPy the order of those additions is not fixed.
    """
    xp = get_array_module(g)
    several = any((is_array(i) and i.dtype.kind in "iu") or isinstance(i, list) for i in _parts(index))
    out = xp.zeros(shape, accumulation_dtype(g.dtype) if several else g.dtype)
    if several:
        xp.add.at(out, index, g)
    else:
        out[index] = g
    return out.astype(g.dtype, copy=False)


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def take_index(x: Array, indices: Any, axis: int | None = None) -> tuple[Any, ...]:
    """The index that takes ``indices`` along ``axis`` of ``x``.

    >>> x = np.array([[1, 2, 3], [4, 5, 6]])
    >>> x[take_index(x, [2, 0], axis=1)].tolist()
    [[3, 1], [6, 4]]

    Raises ArgumentError for an index outside the axis (CuPy itself would wrap it round).
    """
    axis = axis_of("take", x, 0 if axis is None else axis)
    indices = asarray(indices, device=None if is_array(indices) else device_of(x))
    get_array_module(x, indices)
    check(indices.dtype.kind in "iu", DtypeError, "take", "indices must be integers", dtype=str(indices.dtype))
    check_range("take", indices, axis, x.shape, ArgumentError)
    return (*(slice(None),) * axis, indices)


def pick(x: Array, index: Array, axis: int = 0) -> Array:
    """The rows ``index``, an integer array, of x along ``axis``; none may be named twice.

    >>> pick(np.array([1.0, 2.0, 3.0]), np.array([2, 0])).tolist()
    [3.0, 1.0]
    """
    check_range("pick", index, axis, x.shape)
    return x[(*(slice(None),) * axis, index)]


def pick_backward(gy: Array, shape: tuple[int, ...], index: Array, axis: int = 0) -> Array:
    """``gy`` in the rows of an array of ``shape`` that were picked, 0 in the others."""
    gx = get_array_module(gy).zeros(shape, gy.dtype)
    gx[(*(slice(None),) * axis, index)] = gy
    return gx


def place(x: Array, index: Array, count: int, fill: float = 0.0) -> Array:
    """An array of ``count`` rows that has row i of x at ``index[i]``, and ``fill`` in the rows that get none.

    >>> place(np.array([1.0, 2.0]), np.array([2, 0]), 4).tolist()
    [2.0, 0.0, 1.0, 0.0]
    """
    check_range("place", index, 0, (count,))
    y = get_array_module(x).full((count, *x.shape[1:]), fill, x.dtype)
    y[index] = x
    return y


def place_backward(gy: Array, index: Array) -> Array:
    """The rows of ``gy`` that x went to."""
    return gy[index]


def check_range(
    op: str, indices: Array, axis: int, shape: tuple[int, ...], kind: type[GpunnError] = IndexRangeError
) -> None:
    """Check that the integers ``indices`` lie on ``axis``; in a captured step that is told when the step is over.

    >>> check_range("take", np.array([0, -4]), 0, (3,))
    Traceback (most recent call last):
    gpunn.errors.IndexRangeError: take: each index must lie on the axis, got index=-4, axis=0, shape=(3,)
    """
    size = shape[axis]
    wide = indices.astype(np.int64, copy=False)
    wrong = (wide < -size) | (wide >= size)

    def report() -> None:
        index = int(wide.ravel()[int(wrong.argmax())])
        check(False, kind, op, "each index must lie on the axis", index=index, axis=axis, shape=shape)

    cuda.alarm(wrong.any(), report)


def check_index(op: str, x: Array, index: Any) -> None:
    """Check the arrays of integers in ``index``: NumPy does so in ``x[index]``, but CuPy would wrap them round.

    Raises IndexRangeError.
    """
    if get_array_module(x) is np:
        return
    parts = [np.asarray(part) if isinstance(part, list) else part for part in _parts(index)]
    widths = [_width(part) for part in parts]
    axis = 0
    for part, width in zip(parts, widths, strict=True):
        if is_array(part) and part.dtype.kind in "iu" and axis < x.ndim:
            check_range(op, part, axis, x.shape)
        axis += x.ndim - sum(widths) if part is Ellipsis else width


def _width(part: Any) -> int:
    """How many axes a part of an index takes, of the ellipsis not counted."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if is_array(part) and part.dtype.kind == "b" else 1


def one_hot(target: Array, num_classes: int = -1) -> Array:
    """``y[..., c] = 1 where target[...] == c, else 0``: integers of shape (\\*target.shape, num_classes).

    Without ``num_classes`` there are as many classes as the largest target needs.

    >>> one_hot(np.array([0, 2])).tolist()
    [[1, 0, 0], [0, 0, 1]]
    """
    xp = get_array_module(target)
    check_array("one_hot", target=target)
    check(target.dtype.kind in "iu", DtypeError, "one_hot", "target must hold integers", dtype=str(target.dtype))
    check(target.size > 0 or num_classes >= 0, ArgumentError, "one_hot", "an empty target needs num_classes")
    least, most = (int(target.min()), int(target.max())) if target.size else (0, -1)
    classes = most + 1 if num_classes == -1 else integer("one_hot", "num_classes", num_classes, 0)
    inside = least >= 0 and most < classes
    check(inside, ArgumentError, "one_hot", f"targets must lie in 0 to {classes - 1}", least=least, most=most)
    return (target[..., None] == xp.arange(classes)).astype(np.int64)
