"""Normalisation by the root of the mean square, forward and backward.

    y = weight r x        gx = r (g - xhat mean(g xhat))

with ``r = 1 / sqrt(mean(x^2) + eps)``, ``xhat = r x``, ``g = weight gy``.

x is (..., *normalized_shape), weight is of ``normalized_shape``. The mean is that of each row: the elements of the last
axes, for each position along the first. float16 is computed in float32. Source: Zhang and Sennrich 2019, "Root mean
square layer normalization".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import check_number
from gpunn.ops.norm.layer import as_rows, row_shape
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.rows import row_dots
from gpunn.ops.shared.window import Sizes


def rms_norm(x: Array, normalized_shape: Sizes, weight: Array | None = None, eps: float | None = None) -> Array:
    """x, each row of it divided by the root of its mean square; ``eps`` is that of the dtype of sums unless given.

    >>> rms_norm(np.array([[1.0, 7.0]]), 2).round(4).tolist()
    [[0.2, 1.4]]

    Raises ShapeError unless x ends with ``normalized_shape``.
    """
    _, rows, r, w = _rows("rms_norm", x, normalized_shape, weight, eps)
    return (rows * r * w).reshape(x.shape).astype(x.dtype, copy=False)


def rms_norm_backward(
    gy: Array, x: Array, normalized_shape: Sizes, weight: Array | None = None, eps: float | None = None
) -> tuple[Array, Array]:
    """The gradients with respect to x and weight."""
    op = "rms_norm_backward"
    operands(op, gy=gy, x=x)
    check_shape(op, "gy", gy, x.shape)
    _, rows, r, w = _rows(op, x, normalized_shape, weight, eps)
    g, unit = gy.reshape(rows.shape).astype(rows.dtype, copy=False), rows * r
    gw = (g * unit).sum(0)
    g = g * w
    gx = r * (g - unit * (g * unit).mean(1, keepdims=True)) if x.size else g
    shape = x.shape if weight is None else weight.shape
    gw = gw.reshape(shape) if weight is not None else gw
    return gx.reshape(x.shape).astype(x.dtype, copy=False), gw.astype(x.dtype, copy=False)


def _rows(
    op: str, x: Array, normalized_shape: Sizes, weight: Array | None, eps: float | None
) -> tuple[Any, Array, Array, Array | float]:
    """The array module, x as rows, what each row is multiplied by, (rows, 1), and the weight of each column; wide."""
    xp = operands(op, {"weight": weight}, x=x)
    shape = row_shape(op, x.shape, normalized_shape)
    if weight is not None:
        check_shape(op, "weight", weight, shape)
    dtype = accumulation_dtype(x.dtype)
    if eps is None:
        eps = float(np.finfo(dtype).eps)
    check_number(op, eps=eps)
    rows = as_rows(x, shape).astype(dtype, copy=False)
    with np.errstate(invalid="ignore"):  # a negative eps
        r = 1 / xp.sqrt(row_dots(xp, rows, rows)[:, None] / dtype.type(rows.shape[1]) + dtype.type(eps))
    return xp, rows, r, 1.0 if weight is None else weight.reshape(-1).astype(dtype, copy=False)
