"""The bilinear map of two vectors, forward and backward.

    y[n, k] = sum_ij x1[n, i] w[k, i, j] x2[n, j] + b[k]

x1 is (..., I), x2 is (..., J), w is (K, I, J), b is (K,), y is (..., K). float16 is summed in float32.
"""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.array.product import product
from gpunn.ops.shared.checks import check_shape


def bilinear(x1: Array, x2: Array, w: Array, b: Array | None = None) -> Array:
    """Apply the K forms w, and add the bias b.

    >>> import numpy as np
    >>> bilinear(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[[4.0], [5.0]]]), np.array([0.5])).tolist()
    [[42.5]]
    """
    op = "bilinear"
    operands(op, {"b": b}, x1=x1, x2=x2, w=w)
    check(w.ndim == 3, ShapeError, op, "w must have the 3 dimensions (K, I, J)", shape=w.shape)
    fits = x1.ndim == x2.ndim > 0 and x1.shape[:-1] == x2.shape[:-1]
    check(fits, ShapeError, op, "x1 and x2 must have the same shape but for the last axis", x1=x1.shape, x2=x2.shape)
    sizes = (x1.shape[-1], x2.shape[-1])
    rule = "w must be (K, I, J) for x1 (..., I) and x2 (..., J)"
    check(w.shape[1:] == sizes, ShapeError, op, rule, w=w.shape, x1=x1.shape, x2=x2.shape)
    y = (_product(_rows(x1), _wide(w)) * _rows(x2)[:, None, :]).sum(2)
    if b is not None:
        check_shape(op, "b", b, w.shape[:1])
        y = y + _wide(b)
    return y.reshape(*x1.shape[:-1], len(w)).astype(x1.dtype, copy=False)


def bilinear_backward_x1(gy: Array, x2: Array, w: Array) -> Array:
    """The gradient with respect to x1, (..., I); that of x2 is this of x1 and ``w.transpose(0, 2, 1)``."""
    operands("bilinear_backward_x1", gy=gy, x2=x2, w=w)
    products = _product(_rows(x2), _wide(w).transpose(0, 2, 1))  # (rows, K, I)
    gx = (_rows(gy)[:, :, None] * products).sum(1)
    return gx.reshape(*x2.shape[:-1], w.shape[1]).astype(x2.dtype, copy=False)


def bilinear_backward_w(gy: Array, x1: Array, x2: Array) -> Array:
    """The gradient with respect to w, (K, I, J), summed over all rows."""
    operands("bilinear_backward_w", gy=gy, x1=x1, x2=x2)
    g, left = _rows(gy), _rows(x1)
    outer = (g[:, :, None] * left[:, None, :]).reshape(len(g), g.shape[1] * left.shape[1])
    gw = product(outer.T, _rows(x2))
    return gw.reshape(g.shape[1], left.shape[1], x2.shape[-1]).astype(gy.dtype, copy=False)


def _product(rows: Array, w: Array) -> Array:
    """``sum_i rows[n, i] w[k, i, j]``, (rows, K, J)."""
    forms, size, other = w.shape
    return product(rows, w.transpose(1, 0, 2).reshape(size, forms * other)).reshape(len(rows), forms, other)


def _rows(x: Array) -> Array:
    """x as a matrix, wide."""
    return _wide(x).reshape(prod(x.shape[:-1]), x.shape[-1])


def _wide(x: Array) -> Any:
    return x.astype(accumulation_dtype(x.dtype), copy=False)
