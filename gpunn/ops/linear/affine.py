"""The affine map of a fully connected layer, forward and backward.

    y = x W^T + b

x is (..., in), W is (out, in), b is (out,), y is (..., out): examples are rows, so ``z = W x + b`` of a text that
writes examples as columns is the transpose of this. float16 is summed in float32. The products are those of
:mod:`gpunn.ops.array.product`, which has a kernel for captured steps.
"""

from __future__ import annotations

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.array.product import product
from gpunn.ops.shared.checks import check_shape


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """Apply the weights w and the bias b to every row of x.

    >>> import numpy as np
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5])).tolist()
    [[11.5]]
    """
    operands("linear", {"b": b}, x=x, w=w)
    check(w.ndim == 2, ShapeError, "linear", "w must have the 2 dimensions (out, in)", shape=w.shape)
    check(x.ndim >= 1, ShapeError, "linear", "x must have at least 1 dimension", shape=x.shape)
    fits = "the last dimension of x must equal in_features of w"
    check(x.shape[-1] == w.shape[1], ShapeError, "linear", fits, x=x.shape, in_features=w.shape[1])
    acc = accumulation_dtype(x.dtype)
    y = _times(x.astype(acc, copy=False), w.T.astype(acc, copy=False))
    if b is not None:
        check_shape("linear", "b", b, (w.shape[0],))
        y += b.astype(acc, copy=False)
    return y.astype(x.dtype, copy=False)


def linear_backward_x(gy: Array, w: Array) -> Array:
    """The gradient with respect to x, (..., in): ``gy W``."""
    operands("linear_backward_x", gy=gy, w=w)
    acc = accumulation_dtype(gy.dtype)
    return _times(gy.astype(acc, copy=False), w.astype(acc, copy=False)).astype(gy.dtype, copy=False)


def linear_backward_w(gy: Array, x: Array) -> Array:
    """The gradient with respect to W, (out, in): ``gy^T x``, summed over all rows."""
    operands("linear_backward_w", gy=gy, x=x)
    acc = accumulation_dtype(gy.dtype)
    rows_gy = gy.reshape(-1, gy.shape[-1]).astype(acc, copy=False)
    rows_x = x.reshape(-1, x.shape[-1]).astype(acc, copy=False)
    return product(rows_gy.T, rows_x).astype(gy.dtype, copy=False)


def linear_backward_b(gy: Array) -> Array:
    """The gradient with respect to b, (out,): gy summed over all rows."""
    operands("linear_backward_b", gy=gy)
    rows = gy.reshape(-1, gy.shape[-1])
    return rows.sum(0, dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)


def _times(x: Array, matrix: Array) -> Array:
    """Each row of x, of any number of axes, times the matrix."""
    if x.ndim == 2:
        return product(x, matrix)
    if cuda.capturing():
        return product(x.reshape(-1, x.shape[-1]), matrix).reshape(*x.shape[:-1], matrix.shape[1])
    return x @ matrix
