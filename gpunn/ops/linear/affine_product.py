"""The affine map on any array module: products of matrices, by :mod:`gpunn.ops.array.product`."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from gpunn.backend import Array, accumulation_dtype
from gpunn.ops.array.product import product


def takes(products: int, x: Array) -> bool:
    """Whatever comes."""
    return True


def forward(x: Array, w: Array, b: Array | None) -> Array:
    """y (..., out)."""
    if x.dtype.itemsize < 4:
        return _in_float32(forward, x, w, b)
    y = _times(x, w.T)
    if b is not None:
        y += b
    return y


def backward_x(gy: Array, w: Array) -> Array:
    """gx (..., in)."""
    return _in_float32(_times, gy, w) if gy.dtype.itemsize < 4 else _times(gy, w)


def backward_w(gy: Array, x: Array) -> Array:
    """gw (out, in)."""
    if gy.dtype.itemsize < 4:
        return _in_float32(backward_w, gy, x)
    return product(_rows(gy).T, _rows(x))


def _in_float32(function: Callable[..., Array], first: Array, *others: Array | None) -> Array:
    """``function`` of arrays of a half type, with the sums in float32."""
    acc = accumulation_dtype(first.dtype)
    wide = [None if a is None else a.astype(acc) for a in others]
    return function(first.astype(acc), *wide).astype(first.dtype)


def _times(x: Array, matrix: Array) -> Array:
    """Each row of x, of any number of axes, times the matrix."""
    if x.ndim == 2:
        return product(x, matrix)
    return product(_rows(x), matrix).reshape(*x.shape[:-1], matrix.shape[1])


def _rows(x: Array) -> Array:
    """x (..., P) as (R, P)."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])
