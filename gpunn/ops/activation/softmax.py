"""Softmax and its logarithm along one axis, forward and backward.

    softmax(x)[i] = exp(x[i]) / sum_j exp(x[j])        log_softmax(x)[i] = x[i] - log sum_j exp(x[j])

The largest x along the axis is subtracted first, so that nothing overflows. float16 is computed in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.ops.activation import softmax_onednn
from gpunn.ops.array.shape import axis_of
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.chunks import each_block
from gpunn.ops.shared.rows import row_dots, row_sums, unbuffered


def softmax(x: Array, axis: int = -1) -> Array:
    """Probabilities that add up to 1 along ``axis``.

    >>> import numpy as np
    >>> softmax(np.array([1.0, 2.0, 3.0])).round(4).tolist()
    [0.09, 0.2447, 0.6652]
    """
    xp, axis = operands("softmax", x=x), axis_of("softmax", x, axis)
    if softmax_onednn.takes(x, axis) and (known := softmax_onednn.forward(x)) is not None:
        return known

    def block(y: Array, x: Array) -> None:
        xp.subtract(x, x.max(1, keepdims=True), out=y)
        xp.exp(y, out=y)
        y /= _sums(xp, y)

    return _along(xp, block, axis, x)


def softmax_backward(gy: Array, y: Array, axis: int = -1) -> Array:
    """``y (gy - sum_j gy[j] y[j])``."""
    xp = operands("softmax_backward", gy=gy, y=y)
    check_shape("softmax_backward", "gy", gy, y.shape)
    if softmax_onednn.takes(y, axis):
        return softmax_onednn.backward(gy, y)

    def block(gx: Array, gy: Array, y: Array) -> None:
        products = gy[:, :, 0], y[:, :, 0]
        dots = row_dots(xp, *products)[:, None, None] if y.shape[2] == 1 else (gy * y).sum(1, keepdims=True)
        xp.subtract(gy, dots, out=gx)
        gx *= y

    return _along(xp, block, axis, gy, y)


def softmin(x: Array, axis: int = -1) -> Array:
    """:func:`softmax` of -x.

    >>> import numpy as np
    >>> softmin(np.array([0.0, 1000.0])).tolist()
    [1.0, 0.0]
    """
    operands("softmin", x=x)
    return softmax(-x, axis_of("softmin", x, axis))


def softmin_backward(gy: Array, y: Array, axis: int = -1) -> Array:
    """The negative of :func:`softmax_backward`."""
    return -softmax_backward(gy, y, axis)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """The logarithm of :func:`softmax`, exact where the probability itself would round to 0.

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    xp, axis = operands("log_softmax", x=x), axis_of("log_softmax", x, axis)

    def block(y: Array, x: Array) -> None:
        xp.subtract(x, x.max(1, keepdims=True), out=y)
        y -= xp.log(_sums(xp, xp.exp(y)))

    return _along(xp, block, axis, x)


def log_softmax_backward(gy: Array, y: Array, axis: int = -1) -> Array:
    """``gy - softmax(x) sum_j gy[j]``, with softmax(x) = exp(y)."""
    xp = operands("log_softmax_backward", gy=gy, y=y)
    check_shape("log_softmax_backward", "gy", gy, y.shape)

    def block(gx: Array, gy: Array, y: Array) -> None:
        xp.exp(y, out=gx)
        gx *= _sums(xp, gy)
        xp.subtract(gy, gx, out=gx)

    return _along(xp, block, axis, gy, y)


@unbuffered
def _along(xp: Any, work: Callable[..., None], axis: int, *arrays: Array) -> Array:
    """``work(result, *arrays)`` for blocks (M, length of the axis, ...) of arrays of one shape, wide."""
    first, acc = arrays[0], accumulation_dtype(arrays[0].dtype)
    result, length = xp.empty(first.shape, first.dtype), first.shape[axis]
    inner = prod(first.shape[axis:][1:])
    planes = [a.reshape(-1, length, inner) if a.size else a.reshape(0, 1, 1) for a in (result, *arrays)]

    def block(part: slice) -> None:
        out, *given = [each[part] for each in planes]
        if acc == first.dtype:
            work(out, *given)
        else:
            wide = xp.empty(out.shape, acc)
            work(wide, *[a.astype(acc) for a in given])
            out[...] = wide

    each_block(xp, block, len(planes[0]), length * inner * acc.itemsize)
    return result


def _sums(xp: Any, a: Array) -> Array:
    """The sums of a (M, length, inner) along its axis: (M, 1, inner)."""
    return row_sums(xp, a[:, :, 0])[:, None, None] if a.shape[2] == 1 else a.sum(1, keepdims=True)
