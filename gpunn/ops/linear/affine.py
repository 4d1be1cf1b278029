"""The affine map of a fully connected layer, forward and backward.

    y = x W^T + b

x is (..., in), W is (out, in), b is (out,), y is (..., out): examples are rows, so ``z = W x + b`` of a text that
writes examples as columns is the transpose of this. float16 is summed in float32. The ways to compute
are :mod:`gpunn.ops.linear.affine_onednn` and :mod:`gpunn.ops.linear.affine_product`.
"""

from __future__ import annotations

from types import ModuleType

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, fail
from gpunn.ops.linear import affine_onednn, affine_product
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (affine_onednn, affine_product)
"""Each has ``takes(products, x)``, for so many products of two numbers, ``forward``, ``backward_x``, ``backward_w``."""


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """Apply the weights w and the bias b to every row of x.

    >>> import numpy as np
    >>> linear(np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([0.5])).tolist()
    [[11.5]]
    """
    operands("linear", {"b": b}, x=x, w=w)
    if w.ndim != 2:
        fail(ShapeError, "linear", "w must have the 2 dimensions (out, in)", shape=w.shape)
    if x.ndim < 1:
        fail(ShapeError, "linear", "x must have at least 1 dimension", shape=x.shape)
    if x.shape[-1] != w.shape[1]:
        fits = "the last dimension of x must equal in_features of w"
        fail(ShapeError, "linear", fits, x=x.shape, in_features=w.shape[1])
    if b is not None:
        check_shape("linear", "b", b, w.shape[:1])
    y: Array = route(ROUTES, x.size * w.shape[0], x).forward(x, w, b)
    return y


def linear_backward_x(gy: Array, w: Array) -> Array:
    """The gradient with respect to x, (..., in): ``gy W``."""
    op = "linear_backward_x"
    operands(op, gy=gy, w=w)
    if gy.ndim < 1 or gy.shape[-1] != w.shape[0]:
        fits = "the last dimension of gy must equal out_features of w"
        fail(ShapeError, op, fits, gy=gy.shape, out_features=w.shape[0])
    gx: Array = route(ROUTES, gy.size * w.shape[1], gy).backward_x(gy, w)
    return gx


def linear_backward_w(gy: Array, x: Array) -> Array:
    """The gradient with respect to W, (out, in): ``gy^T x``, summed over all rows."""
    op = "linear_backward_w"
    operands(op, gy=gy, x=x)
    if gy.shape[:-1] != x.shape[:-1]:
        fail(ShapeError, op, "gy and x must have the same rows", gy=gy.shape, x=x.shape)
    gw: Array = route(ROUTES, gy.size * x.shape[-1], gy).backward_w(gy, x)
    return gw


def linear_backward_b(gy: Array) -> Array:
    """The gradient with respect to b, (out,): gy summed over all rows."""
    operands("linear_backward_b", gy=gy)
    rows = gy if gy.ndim == 2 else gy.reshape(-1, gy.shape[-1])
    return rows.sum(0, dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)
