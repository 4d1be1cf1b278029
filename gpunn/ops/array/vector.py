"""Vectors along axes: their lengths, and the product that stands upright on two of them, forward and backward.

    norm = (sum_i |x[i]|^p)^(1/p)       p = inf, -inf: the largest, the least |x[i]|       p = 0: how many are not 0
    d norm / dx[i] = sign(x[i]) (|x[i]| / norm)^(p - 1)

0 where the norm is 0, or x[i] for p < 1; where p is infinite, those of equal size share the gradient. Elements are
divided by the largest first, so that nothing overflows; half types are computed in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, cast, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number, fail
from gpunn.ops.array.arithmetic import Gradients, unbroadcast
from gpunn.ops.array.math import sign
from gpunn.ops.array.reduction import extremum_backward
from gpunn.ops.array.shape import Axis, axes_of, axis_of, spread


def norm(x: Array, p: float = 2.0, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> norm(np.array([3.0, -4.0])).tolist(), norm(np.array([3.0, -4.0]), math.inf).tolist()
    (5.0, 4.0)

    Raises ShapeError for no elements and an infinite or a negative p: there is no largest.
    """
    xp, axes = operands("norm", x=x), axes_of("norm", x, axis)
    check_number("norm", p=p)
    check(p == p, ArgumentError, "norm", "p must be a number", p=p)
    count = math.prod(x.shape[a] for a in axes)
    check(count > 0 or 0 <= p < math.inf, ShapeError, "norm", "there must be elements", p=p, shape=x.shape, axis=axis)
    size = xp.abs(x.astype(accumulation_dtype(x.dtype), copy=False))
    if p == math.inf or p == -math.inf:
        y = size.max(axes, keepdims=keepdims) if p > 0 else size.min(axes, keepdims=keepdims)
    elif p == 0:
        y = (size != 0).sum(axes, keepdims=keepdims)
    else:
        y = _powers(xp, size, float(p), axes, count, keepdims)
    return cast(xp.asarray(y), x.dtype)


def _powers(xp: Any, size: Array, p: float, axes: tuple[int, ...], count: int, keepdims: bool) -> Array:
    if not count:
        return size.sum(axes, keepdims=keepdims)
    most = size.max(axes, keepdims=True) if p > 0 else size.min(axes, keepdims=True)
    unit = xp.where((most > 0) & (most < math.inf), most, 1).astype(size.dtype, copy=False)
    total = ((size / unit) ** p).sum(axes, keepdims=True)
    y = unit * total ** (1 / p)
    return y if keepdims else y.squeeze(axes)


def norm_backward(gy: Array, x: Array, y: Array, p: float, axis: Axis, keepdims: bool) -> Array:
    """``gy`` times the slope; y is what :func:`norm` gave."""
    xp, dtype = operands("norm_backward", gy=gy, x=x), accumulation_dtype(x.dtype)
    g, wide, length = (a.astype(dtype, copy=False) for a in (gy, x, y))
    if p == 0:
        return xp.zeros_like(x)
    direction = sign(wide)
    if p == math.inf or p == -math.inf:
        return cast(extremum_backward(g, xp.abs(wide), length, axis, keepdims) * direction, x.dtype)
    g, length = spread(g, x.shape, axis, keepdims), spread(length, x.shape, axis, keepdims)
    flat = length == 0 if p >= 1 else (length == 0) | (wide == 0)
    share = xp.abs(wide) / xp.where(flat, 1, length).astype(dtype, copy=False)
    if p < 1:
        share = xp.where(flat, 1, share).astype(dtype, copy=False)
    return cast(xp.where(flat, 0, g * direction * share ** (float(p) - 1)), x.dtype)


def cross(a: Array, b: Array, axis: int = -1) -> Array:
    """``(a1 b2 - a2 b1, a2 b0 - a0 b2, a0 b1 - a1 b0)`` along ``axis``, of size 3; other axes broadcast.

    >>> cross(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    xp = operands("cross", a=a, b=b)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        fail(ShapeError, "cross", "shapes must broadcast", a=a.shape, b=b.shape)
    check(a.ndim == b.ndim, ShapeError, "cross", "both must have as many axes", a=a.shape, b=b.shape)
    along = axis_of("cross", a, axis)
    three = a.shape[along] == b.shape[along] == 3
    check(three, ShapeError, "cross", "the axis must have size 3", a=a.shape, b=b.shape, axis=axis)
    x, y = (xp.moveaxis(each, along, 0) for each in (a, b))
    parts = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]
    return xp.stack(parts, along)


def cross_backward(gy: Array, a: Array, b: Array, axis: int, needs: tuple[bool, ...]) -> Gradients:
    """``b x gy`` and ``gy x a``."""
    ga = unbroadcast(cross(b, gy, axis), a.shape) if needs[0] else None
    gb = unbroadcast(cross(gy, a, axis), b.shape) if needs[1] else None
    return ga, gb
