"""The cosine of the angle between vectors, forward and backward.

    cos(a, b) = (a . b) / (max(|a|, eps) max(|b|, eps))

a and b are the vectors along one axis of x1 and x2, whose shapes broadcast; the result lacks that axis. The cosine of
a vector of zeros is 0. float16 is computed in float32.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number, fail
from gpunn.ops.array.arithmetic import unbroadcast
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.lengths import divisor, largest


def cosine_similarity(x1: Array, x2: Array, axis: int = 1, eps: float = 1e-8) -> Array:
    """The cosines of the vectors of x1 and x2 along ``axis`` of the broadcast shape.

    >>> cosine_similarity(np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[5.0, 0.0], [1.0, -1.0]])).tolist()
    [1.0, 0.0]
    """
    xp, wide1, wide2, _ = _checked("cosine_similarity", x1, x2, axis, eps)
    (norm1, _), (norm2, _) = (_norm(xp, wide, axis, eps) for wide in (wide1, wide2))
    return xp.asarray((wide1 / norm1 * (wide2 / norm2)).sum(axis)).astype(x1.dtype, copy=False)


def cosine_similarity_backward_x1(gy: Array, x1: Array, x2: Array, axis: int = 1, eps: float = 1e-8) -> Array:
    """The gradient with respect to x1: ``b / (|a| |b|) - cos(a, b) a / |a|^2``; that of x2 with a and b exchanged.

    Where ``|a| < eps`` the norm counts as constant, and the second term is left out.
    """
    op = "cosine_similarity_backward_x1"
    xp, wide1, wide2, shape = _checked(op, x1, x2, axis, eps)
    operands(op, gy=gy, x1=x1)
    dropped = axis % len(shape)
    check_shape(op, "gy", gy, shape[:dropped] + shape[dropped + 1 :])
    (norm1, free), (norm2, _) = (_norm(xp, wide, axis, eps) for wide in (wide1, wide2))
    unit1, unit2 = wide1 / norm1, wide2 / norm2
    cosine = (unit1 * unit2).sum(axis, keepdims=True)
    gx = xp.expand_dims(gy.astype(wide1.dtype, copy=False), dropped) * (unit2 - free * cosine * unit1) / norm1
    return unbroadcast(gx, x1.shape).astype(x1.dtype, copy=False)


def _norm(xp: Any, x: Array, axis: int, eps: float) -> tuple[Array, Array]:
    """The lengths of the vectors, at least eps, and whether they are their own; the axis stays with size 1."""
    unit = divisor(largest(x, axis))
    share = x / unit
    norm = unit * xp.sqrt((share * share).sum(axis, keepdims=True))
    return xp.maximum(norm, eps), norm > eps


def _checked(op: str, x1: Array, x2: Array, axis: int, eps: float) -> tuple[Any, Array, Array, tuple[int, ...]]:
    """The array module, both arrays wide with as many axes as the broadcast shape, and that shape."""
    xp = operands(op, x1=x1, x2=x2)
    try:
        shape = np.broadcast_shapes(x1.shape, x2.shape)
    except ValueError:
        fail(ShapeError, op, "shapes must broadcast", x1=x1.shape, x2=x2.shape)
    valid = isinstance(axis, Integral) and -len(shape) <= axis < len(shape)
    check(valid, ShapeError, op, "axis must be one of the result's", axis=axis, shape=shape)
    check_number(op, eps=eps)
    check(eps > 0, ArgumentError, op, "eps must be above 0", eps=eps)
    dtype = accumulation_dtype(x1.dtype)
    return xp, *(xp.broadcast_to(x, shape).astype(dtype, copy=False) for x in (x1, x2)), shape
