"""Global pooling on any array module: reductions over the flattened planes."""

from __future__ import annotations

from math import prod

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.chunks import each_block
from gpunn.ops.shared.rows import row_sums


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def avg_forward(x: Array) -> Array:
    """The mean of each plane, (N, C, 1, ...)."""
    xp, acc, pixels = get_array_module(x), accumulation_dtype(x.dtype), prod(x.shape[2:])
    planes, y = x.reshape(-1, pixels), xp.empty((*x.shape[:2], *(1,) * (x.ndim - 2)), x.dtype)
    means = y.reshape(-1)

    def block(part: slice) -> None:
        means[part] = row_sums(xp, planes[part].astype(acc, copy=False)) / acc.type(pixels)

    each_block(xp, block, len(planes), pixels * acc.itemsize)
    return y


def avg_backward(gy: Array, x_shape: Size) -> Array:
    """gx: gy, divided by the number of pixels, at each pixel."""
    gx = get_array_module(gy).empty(x_shape, gy.dtype)
    gx[...] = gy / gy.dtype.type(prod(x_shape[2:]))
    return gx


def max_forward(x: Array) -> tuple[Array, Array]:
    """The maximum of each plane and its place, (N, C, 1, ...)."""
    xp, pixels, y_shape = get_array_module(x), prod(x.shape[2:]), (*x.shape[:2], *(1,) * (x.ndim - 2))
    planes = x.reshape(*x.shape[:2], pixels)
    y, place = planes.max(2), planes.argmax(2)
    if bool((y != y).any()):
        last_nan = pixels - 1 - (planes != planes)[:, :, ::-1].argmax(2)
        place = xp.where(y == y, place, last_nan)
    return y.reshape(y_shape), place.astype(np.int32).reshape(y_shape)


def max_backward(gy: Array, place: Array, x_shape: Size) -> Array:
    """gx: gy at the place of each maximum, 0 elsewhere."""
    xp = get_array_module(gy)
    gx = xp.zeros(prod(x_shape), gy.dtype)
    gx[xp.arange(gy.size) * prod(x_shape[2:]) + place.reshape(-1)] = gy.reshape(-1)
    return gx.reshape(x_shape)
