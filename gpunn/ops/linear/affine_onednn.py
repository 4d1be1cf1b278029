"""The affine map of float32 by oneDNN's inner product, on the CPU: faster than BLAS for few rows and large matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn

_NANOSECONDS = 0.02  # of a product and its sum, about
_LEAST_PRODUCTS = 1 << 20  # below, BLAS is as fast, or faster
_X, _W, _B, _Y, _GX, _GW, _GY = 1, 33, 41, 17, 129, 161, 145


def takes(products: int, x: Array) -> bool:
    """True for large products of float32 on the CPU where the library is, unless kernels are emulated."""
    return onednn.takes(x, products >= _LEAST_PRODUCTS) and products > 0 and not cuda.takes(x)


def forward(x: Array, w: Array, b: Array | None) -> Array:
    """y (..., out)."""
    y = np.empty((*x.shape[:-1], len(w)), x.dtype)
    if b is None:
        _run(_forward, x, w, x, w, y)
    else:
        _run(_forward_bias, x, w, x, w, b, y)
    return y


def backward_x(gy: Array, w: Array) -> Array:
    """gx (..., in)."""
    gx = np.empty((*gy.shape[:-1], w.shape[1]), gy.dtype)
    _run(_backward_x, gx, w, gy, w, gx)
    return gx


def backward_w(gy: Array, x: Array) -> Array:
    """gw (out, in)."""
    gw = np.empty((gy.shape[-1], x.shape[-1]), gy.dtype)
    _run(_backward_w, x, gw, gy, x, gw)
    return gw


def _run(make: Any, x: Array, w: Array, *arrays: Array) -> None:
    rows = x.size // x.shape[-1]
    onednn.run(rows * w.size * _NANOSECONDS, make, (rows, *w.shape), *arrays)


def _layouts(rows: int, out: int, size: int) -> list[onednn.Layout]:
    """Of x, w, b and y."""
    return [onednn.Layout(shape) for shape in ((rows, size), (out, size), (out,), (rows, out))]


def _described(x: Any, w: Any, b: Any, y: Any) -> onednn.Description:
    return onednn.Description("inner_product_forward", onednn.FORWARD, x, w, b, y)


def _forward(*sizes: int) -> onednn.Job:
    x, w, _, y = _layouts(*sizes)
    return onednn.Job(_described(x, w, None, y), [(_X, x, False), (_W, w, False), (_Y, y, True)])


def _forward_bias(*sizes: int) -> onednn.Job:
    x, w, b, y = _layouts(*sizes)
    return onednn.Job(_described(x, w, b, y), [(_X, x, False), (_W, w, False), (_B, b, False), (_Y, y, True)])


def _backward_x(*sizes: int) -> onednn.Job:
    x, w, _, y = _layouts(*sizes)
    own = onednn.Description("inner_product_backward_data", x, w, y, _described(x, w, None, y))
    return onednn.Job(own, [(_GY, y, False), (_W, w, False), (_GX, x, True)])


def _backward_w(*sizes: int) -> onednn.Job:
    x, w, _, y = _layouts(*sizes)
    own = onednn.Description("inner_product_backward_weights", x, w, None, y, _described(x, w, None, y))
    return onednn.Job(own, [(_GY, y, False), (_X, x, False), (_GW, w, True)])
