"""Softmax and its logarithm along one axis, forward and backward.

    softmax(x)[i] = exp(x[i]) / sum_j exp(x[j])        log_softmax(x)[i] = x[i] - log sum_j exp(x[j])

The largest x along the axis is subtracted first, so that nothing overflows. float16 is computed in float32.
"""

from __future__ import annotations

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.array.shape import axis_of


def softmax(x: Array, axis: int = -1) -> Array:
    """Probabilities that add up to 1 along ``axis``.

    >>> import numpy as np
    >>> softmax(np.array([1.0, 2.0, 3.0])).round(4).tolist()
    [0.09, 0.2447, 0.6652]
    """
    xp = operands("softmax", x=x)
    shifted = _shifted("softmax", x, axis)
    exponentials = xp.exp(shifted)
    return (exponentials / exponentials.sum(axis, keepdims=True)).astype(x.dtype, copy=False)


def softmax_backward(gy: Array, y: Array, axis: int = -1) -> Array:
    """``y (gy - sum_j gy[j] y[j])``."""
    operands("softmax_backward", gy=gy, y=y)
    weighted = gy.astype(accumulation_dtype(gy.dtype), copy=False) * y
    return (weighted - y * weighted.sum(axis, keepdims=True)).astype(gy.dtype, copy=False)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """The logarithm of :func:`softmax`, exact where the probability itself would round to 0.

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    xp = operands("log_softmax", x=x)
    shifted = _shifted("log_softmax", x, axis)
    return (shifted - xp.log(xp.exp(shifted).sum(axis, keepdims=True))).astype(x.dtype, copy=False)


def log_softmax_backward(gy: Array, y: Array, axis: int = -1) -> Array:
    """``gy - softmax(x) sum_j gy[j]``, with softmax(x) = exp(y)."""
    xp = operands("log_softmax_backward", gy=gy, y=y)
    wide = gy.astype(accumulation_dtype(gy.dtype), copy=False)
    return (wide - xp.exp(y) * wide.sum(axis, keepdims=True)).astype(gy.dtype, copy=False)


def _shifted(op: str, x: Array, axis: int) -> Array:
    axis = axis_of(op, x, axis)
    check(x.shape[axis] > 0, ShapeError, op, "x must not be empty along axis", axis=axis, shape=x.shape)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    return wide - wide.max(axis, keepdims=True)
