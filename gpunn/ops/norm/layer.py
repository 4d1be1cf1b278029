"""Layer normalisation, forward and backward.

    y = weight (x - mean) / sqrt(var + eps) + bias

x is (..., *normalized_shape), weight and bias are of ``normalized_shape``. Mean and variance, without Bessel's
correction, are those of each row: the elements of the last axes, for each position along the first. The gradient passes
through them::

    gx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps)      g = weight gy,  xhat = (x - mean) / sqrt(var + eps)

float16 is computed in float32. Source: Ba, Kiros and Hinton 2016, "Layer normalization".

The ways to compute are :mod:`gpunn.ops.norm.layer_onednn`, :mod:`gpunn.ops.norm.layer_kernel` and
:mod:`gpunn.ops.norm.layer_rows`.
"""

from __future__ import annotations

from math import prod
from types import ModuleType

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check, check_number
from gpunn.ops.norm import layer_kernel, layer_onednn, layer_rows
from gpunn.ops.shared.checks import Size, check_shape, integer
from gpunn.ops.shared.routes import route
from gpunn.ops.shared.window import Sizes

ROUTES: tuple[ModuleType, ...] = (layer_onednn, layer_kernel, layer_rows)
"""Each has ``takes(x)``, ``forward`` and ``backward``, of rows."""


def layer_norm(
    x: Array, normalized_shape: Sizes, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each row, which the gradient needs: (rows,), float32 for float16.

    >>> import numpy as np
    >>> y, mean, var = layer_norm(np.array([[1.0, 3.0], [5.0, 5.0]]), 2, eps=0.01)
    >>> y.round(3).tolist(), mean.tolist(), var.tolist()
    ([[-0.995, 0.995], [0.0, 0.0]], [2.0, 5.0], [1.0, 0.0])

    Raises ShapeError unless x ends with ``normalized_shape``, ArgumentError for a negative eps.
    """
    op = "layer_norm"
    xp = operands(op, {"weight": weight, "bias": bias}, x=x)
    shape = _normalized(op, x.shape, normalized_shape, eps)
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None:
            check_shape(op, name, array, shape)
    rows, acc = as_rows(x, shape), accumulation_dtype(x.dtype)
    if x.size == 0:
        return x.copy(), xp.zeros(len(rows), acc), xp.zeros(len(rows), acc)
    weight, bias = (None if a is None else a.reshape(-1) for a in (weight, bias))
    y, mean, var = route(ROUTES, rows).forward(rows, weight, bias, eps)
    return y.reshape(x.shape), mean, var


def layer_norm_backward(
    gy: Array,
    x: Array,
    mean: Array,
    var: Array,
    normalized_shape: Sizes,
    weight: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """The gradients with respect to x, weight and bias, from the ``mean`` and ``var`` of :func:`layer_norm`."""
    op = "layer_norm_backward"
    xp = operands(op, {"weight": weight}, gy=gy, x=x)
    shape = _normalized(op, x.shape, normalized_shape, eps)
    check_shape(op, "gy", gy, x.shape)
    if weight is not None:
        check_shape(op, "weight", weight, shape)
    rows = as_rows(x, shape)
    check_shape(op, "mean", mean, rows.shape[:1])
    check_shape(op, "var", var, rows.shape[:1])
    if x.size == 0:
        return x.copy(), xp.zeros(shape, x.dtype), xp.zeros(shape, x.dtype)
    flat = None if weight is None else weight.reshape(-1)
    gx, gw, gb = route(ROUTES, rows).backward(as_rows(gy, shape), rows, mean, var, flat, eps)
    return gx.reshape(x.shape), gw.reshape(shape).astype(x.dtype), gb.reshape(shape).astype(x.dtype)


def _normalized(op: str, x_shape: Size, normalized_shape: Sizes, eps: float) -> Size:
    """``normalized_shape`` as a tuple; checks the arguments of both directions."""
    shape = row_shape(op, x_shape, normalized_shape)
    check_number(op, eps=eps)
    return shape


def row_shape(op: str, x_shape: Size, normalized_shape: Sizes) -> Size:
    """``normalized_shape`` as a tuple, with which ``x_shape`` must end."""
    given = normalized_shape if isinstance(normalized_shape, tuple | list) else (normalized_shape,)
    shape = tuple(integer(op, "normalized_shape", size, 1) for size in given)
    rule = "x must end with normalized_shape, of one axis at least"
    fits = 1 <= len(shape) <= len(x_shape) and x_shape[-len(shape) :] == shape
    check(fits, ShapeError, op, rule, x=x_shape, normalized_shape=shape)
    return shape


def as_rows(x: Array, shape: Size) -> Array:
    """x as (rows, elements of a row)."""
    return x.reshape(prod(x.shape[: x.ndim - len(shape)]), prod(shape))
