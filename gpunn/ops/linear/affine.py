"""The affine map of a fully connected layer, forward and backward.

    y = x W^T + b

x is (..., in), W is (out, in), b is (out,), y is (..., out): examples are rows, so ``z = W x + b`` of a text that
writes examples as columns is the transpose of this. float16 is summed in float32. The ways to compute
are :mod:`gpunn.ops.linear.affine_onednn` and :mod:`gpunn.ops.linear.affine_product`.
"""

from __future__ import annotations

from math import prod
from types import ModuleType
from typing import Any

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.linear import affine_onednn, affine_product
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (affine_onednn, affine_product)
"""Each has ``takes(rows, w_shape, x)``, ``forward``, ``backward_x`` and ``backward_w``."""


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
    if b is not None:
        check_shape("linear", "b", b, (w.shape[0],))
    way = _way(x, w.shape)
    return way.forward(x, w, b)


def linear_backward_x(gy: Array, w: Array) -> Array:
    """The gradient with respect to x, (..., in): ``gy W``."""
    operands("linear_backward_x", gy=gy, w=w)
    check_shape("linear_backward_x", "gy", gy, (*gy.shape[:-1], len(w)))
    way = _way(gy, w.shape)
    return way.backward_x(gy, w)


def linear_backward_w(gy: Array, x: Array) -> Array:
    """The gradient with respect to W, (out, in): ``gy^T x``, summed over all rows."""
    operands("linear_backward_w", gy=gy, x=x)
    check_shape("linear_backward_w", "gy", gy, (*x.shape[:-1], *gy.shape[-1:]))
    way = _way(gy, (gy.shape[-1], x.shape[-1]))
    return way.backward_w(gy, x)


def linear_backward_b(gy: Array) -> Array:
    """The gradient with respect to b, (out,): gy summed over all rows."""
    operands("linear_backward_b", gy=gy)
    rows = gy.reshape(-1, gy.shape[-1])
    return rows.sum(0, dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)


def _way(x: Array, w_shape: tuple[int, ...]) -> Any:
    return route(ROUTES, prod(x.shape[:-1]), w_shape, x)
