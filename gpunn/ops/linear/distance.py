"""Lengths of vectors: arrays divided by them, and distances; forward and backward.

    normalize: x / max(|x|, eps)        pairwise_distance: |x1 - x2 + eps|        |x| = (sum_i |x[i]|^p)^(1 / p)

The vectors lie along an axis (for pairwise_distance the last), or several. p is any number: of 0 the length is the
number of elements other than 0, of infinity the largest element, of -infinity the smallest. Its slope at a vector of
zeros counts as 0. float16 is computed in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check, check_number, fail
from gpunn.ops.array.arithmetic import unbroadcast
from gpunn.ops.array.math import sign
from gpunn.ops.array.shape import axes_of
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.lengths import divisor, largest

Axes = int | tuple[int, ...]


def normalize(x: Array, p: float = 2.0, axis: Axes = 1, eps: float = 1e-12) -> Array:
    """x divided by the length of its vectors along ``axis``, which counts as ``eps`` where it is less.

    >>> normalize(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    xp, wide, axes = _vectors("normalize", x, p, axis, eps)
    y = wide / xp.maximum(_length(xp, wide, p, axes), eps)
    return y.reshape(x.shape).astype(x.dtype, copy=False)


def normalize_backward(gy: Array, x: Array, p: float = 2.0, axis: Axes = 1, eps: float = 1e-12) -> Array:
    """The gradient with respect to x: ``gy / d - slope sum(gy x) / d^2``, or ``gy / d`` where the divisor d is eps."""
    op = "normalize_backward"
    operands(op, gy=gy, x=x)
    check_shape(op, "gy", gy, x.shape)
    xp, wide, axes = _vectors(op, x, p, axis, eps)
    own = _length(xp, wide, p, axes)
    d = xp.maximum(own, eps)
    g = gy.reshape(wide.shape) / d
    share = (g * (wide / d)).sum(axes, keepdims=True)
    gx = g - xp.where(own < eps, 0, share) * _slope(xp, wide, own, p, axes)
    return gx.reshape(x.shape).astype(x.dtype, copy=False)


def pairwise_distance(x1: Array, x2: Array, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False) -> Array:
    """The lengths of ``x1 - x2 + eps`` along the last axis of the broadcast shape.

    >>> pairwise_distance(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]]), eps=0.0).tolist()
    [5.0]
    """
    xp, d = _differences("pairwise_distance", x1, x2, p, eps)
    y = _length(xp, d, p, (d.ndim - 1,))
    return xp.asarray(y if keepdims else y[..., 0]).astype(x1.dtype, copy=False)


def pairwise_distance_backward(
    gy: Array, x1: Array, x2: Array, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False
) -> tuple[Array, Array]:
    """The gradients with respect to x1 and x2."""
    op = "pairwise_distance_backward"
    xp, d = _differences(op, x1, x2, p, eps)
    operands(op, gy=gy, x1=x1)
    check_shape(op, "gy", gy, (*d.shape[:-1], 1) if keepdims else d.shape[:-1])
    g = gy if keepdims else gy[..., None]
    g = g.astype(d.dtype, copy=False) * _slope(xp, d, _length(xp, d, p, (d.ndim - 1,)), p, (d.ndim - 1,))
    return unbroadcast(g, x1.shape).astype(x1.dtype, copy=False), unbroadcast(-g, x2.shape).astype(x2.dtype, copy=False)


def _length(xp: Any, x: Array, p: float, axes: tuple[int, ...]) -> Array:
    """The lengths; the axes stay with size 1."""
    if p == 0:
        return (x != 0).sum(axes, keepdims=True).astype(x.dtype)
    if p == -math.inf:
        return xp.abs(x).min(axes, keepdims=True)
    unit = largest(x, axes)
    if p == math.inf:
        return unit
    unit = divisor(unit)
    share = xp.abs(x) / unit
    with np.errstate(divide="ignore"):  # 0 to a negative power
        total = (share * share if p == 2 else share**p).sum(axes, keepdims=True)
        return unit * (xp.sqrt(total) if p == 2 else total ** (1 / p))


def _slope(xp: Any, x: Array, length: Array, p: float, axes: tuple[int, ...]) -> Array:
    """The derivative of the length with respect to each element."""
    if p == 0:
        return xp.zeros_like(x)
    if math.isinf(p):
        reached = xp.abs(x) == length
        return sign(x) * reached / xp.maximum(reached.sum(axes, keepdims=True), 1).astype(x.dtype)
    share = x / xp.where(length == 0, 1, length)
    if p == 2:
        return share
    if p == 1:
        return sign(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        steep = sign(x) * xp.abs(share) ** (p - 1)
    return xp.where((x == 0) | (length == 0), 0, steep)


def _vectors(op: str, x: Array, p: float, axis: Axes, eps: float) -> tuple[Any, Array, tuple[int, ...]]:
    """The array module, x wide with an axis at least, and the axes of the vectors."""
    xp = operands(op, x=x)
    check_number(op, p=p, eps=eps)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False).reshape(x.shape or (1,))
    return xp, wide, axes_of(op, wide, axis)


def _differences(op: str, x1: Array, x2: Array, p: float, eps: float) -> tuple[Any, Array]:
    """The array module, and x1 - x2 + eps, wide."""
    xp = operands(op, x1=x1, x2=x2)
    check_number(op, p=p, eps=eps)
    dtype = accumulation_dtype(x1.dtype)
    try:
        shape = np.broadcast_shapes(x1.shape, x2.shape)
    except ValueError:
        fail(ShapeError, op, "shapes must broadcast", x1=x1.shape, x2=x2.shape)
    check(len(shape) > 0, ShapeError, op, "x1 and x2 must have vectors along the last axis", x1=x1.shape, x2=x2.shape)
    return xp, x1.astype(dtype, copy=False) - x2.astype(dtype, copy=False) + dtype.type(eps)
