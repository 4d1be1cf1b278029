"""The affine map on any array module: products of matrices, by :mod:`gpunn.ops.array.product`."""

from __future__ import annotations

from math import prod

from gpunn.backend import Array, accumulation_dtype
from gpunn.ops.array.product import product


def takes(rows: int, w_shape: tuple[int, ...], x: Array) -> bool:
    """Whatever comes."""
    return True


def forward(x: Array, w: Array, b: Array | None) -> Array:
    """y (..., out)."""
    acc = accumulation_dtype(x.dtype)
    y = _times(x.astype(acc, copy=False), w.T.astype(acc, copy=False))
    if b is not None:
        y += b.astype(acc, copy=False)
    return y.astype(x.dtype, copy=False)


def backward_x(gy: Array, w: Array) -> Array:
    """gx (..., in)."""
    acc = accumulation_dtype(gy.dtype)
    return _times(gy.astype(acc, copy=False), w.astype(acc, copy=False)).astype(gy.dtype, copy=False)


def backward_w(gy: Array, x: Array) -> Array:
    """gw (out, in)."""
    acc = accumulation_dtype(gy.dtype)
    rows_gy, rows_x = (_rows(a).astype(acc, copy=False) for a in (gy, x))
    return product(rows_gy.T, rows_x).astype(gy.dtype, copy=False)


def _times(x: Array, matrix: Array) -> Array:
    """Each row of x, of any number of axes, times the matrix."""
    if x.ndim == 2:
        return product(x, matrix)
    return product(_rows(x), matrix).reshape(*x.shape[:-1], matrix.shape[1])


def _rows(x: Array) -> Array:
    """x (..., P) as (R, P)."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])
