"""Global average and max pooling: each channel's plane to one number, forward and backward.

    avg: y[n,c] = sum of x over the plane / its pixels          max: y[n,c] = max of x over the plane

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), and all but N and C is the plane here; y is (N, C, 1), (N, C, 1, 1) or
(N, C, 1, 1, 1); ``rank``, 1 to 3, is the number of axes. The first maximum (in row-major order) wins a tie; NaN wins
over every number, the last NaN over the others. Forward max pooling also returns ``place``, the index of each maximum
in its flattened plane, int32. Source: Lin, Chen and Yan 2014, "Network in network", section 3.2.

CUDA: ``kernels/global_pool.cu``. Without it: reductions over the flattened planes.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.pool_window import check_place
from gpunn.ops.vector import vector
from gpunn.ops.window import Size, check_rank, check_shape


def global_avg_pool(rank: int, x: Array) -> Array:
    """The mean of each plane.

    >>> global_avg_pool(1, np.arange(6.0).reshape(1, 2, 3)).tolist()
    [[[1.0], [4.0]]]

    Raises ShapeError unless x has ``rank`` + 2 dimensions, and a pixel at least.
    """
    op = f"global_avg_pool{rank}d"
    xp = operands(op, x=x)
    _pixels(op, rank, x.shape)
    y_shape = (*x.shape[:2], *(1,) * rank)
    if cuda.takes(x, half=True):
        y = xp.empty(y_shape, x.dtype)
        _launch("global_avg_pool2d_forward", (x, y), x)
        return y
    axes = tuple(range(2, rank + 2))
    return x.mean(axes, keepdims=True, dtype=accumulation_dtype(x.dtype)).astype(x.dtype, copy=False)


def global_avg_pool_backward(rank: int, gy: Array, x_shape: Size) -> Array:
    """The gradient with respect to x: gy, divided by the number of pixels, at each pixel."""
    op = f"global_avg_pool{rank}d_backward"
    xp = operands(op, gy=gy)
    pixels = _pixels(op, rank, x_shape)
    check_shape(op, "gy", gy, (*x_shape[:2], *(1,) * rank))
    gx = xp.empty(x_shape, gy.dtype)
    if cuda.takes(gy, half=True):
        _launch("global_avg_pool2d_backward", (gy, gx), gx, accumulation_dtype(gy.dtype).type(1 / pixels))
    else:
        gx[...] = gy / gy.dtype.type(pixels)
    return gx


def global_max_pool(rank: int, x: Array) -> tuple[Array, Array]:
    """The maximum of each plane and its place in the flattened plane, of one shape.

    >>> y, place = global_max_pool(2, np.float32([[[[1, 7], [3, 7]]]]))
    >>> y.item(), place.item(), place.dtype.name
    (7.0, 1, 'int32')

    Raises ShapeError unless x has ``rank`` + 2 dimensions, and a pixel at least.
    """
    op = f"global_max_pool{rank}d"
    xp = operands(op, x=x)
    pixels = _pixels(op, rank, x.shape)
    y_shape = (*x.shape[:2], *(1,) * rank)
    if cuda.takes(x, half=True):
        y, place = (xp.empty(y_shape, dtype) for dtype in (x.dtype, np.dtype(np.int32)))
        _launch("global_max_pool2d_forward", (x, y, place), x)
        return y, place
    planes = x.reshape(*x.shape[:2], pixels)
    y, place = planes.max(2), planes.argmax(2)
    if bool((y != y).any()):
        last_nan = pixels - 1 - (planes != planes)[:, :, ::-1].argmax(2)
        place = xp.where(y == y, place, last_nan)
    return y.reshape(y_shape), place.astype(np.int32).reshape(y_shape)


def global_max_pool_backward(rank: int, gy: Array, place: Array, x_shape: Size) -> Array:
    """The gradient with respect to x: gy at the place of each maximum, 0 elsewhere."""
    op = f"global_max_pool{rank}d_backward"
    xp = operands(op, gy=gy)
    pixels = _pixels(op, rank, x_shape)
    check_shape(op, "gy", gy, (*x_shape[:2], *(1,) * rank))
    check_place(op, place, gy.shape, np.dtype(np.int32))
    if cuda.takes(gy, half=True):
        gx = xp.empty(x_shape, gy.dtype)
        _launch("global_max_pool2d_backward", (gy, place, gx), gx)
        return gx
    gx = xp.zeros(prod(x_shape), gy.dtype)
    gx[xp.arange(gy.size) * pixels + place.reshape(-1)] = gy.reshape(-1)
    return gx.reshape(x_shape)


def _pixels(op: str, rank: int, x_shape: Size) -> int:
    """The pixels of a plane; an int32 has to count them."""
    check_rank(op, "x", x_shape, rank)
    pixels = prod(x_shape[2:])
    check(0 < pixels < 2**31, ShapeError, op, "a plane must have 1 to 2^31 - 1 pixels", shape=x_shape)
    return pixels


def global_avg_pool2d(x: Array) -> Array:
    """:func:`global_avg_pool` of images."""
    return global_avg_pool(2, x)


def global_avg_pool2d_backward(gy: Array, x_shape: Size) -> Array:
    """:func:`global_avg_pool_backward` of images."""
    return global_avg_pool_backward(2, gy, x_shape)


def global_max_pool2d(x: Array) -> tuple[Array, Array]:
    """:func:`global_max_pool` of images."""
    return global_max_pool(2, x)


def global_max_pool2d_backward(gy: Array, place: Array, x_shape: Size) -> Array:
    """:func:`global_max_pool_backward` of images."""
    return global_max_pool_backward(2, gy, place, x_shape)


# ---- with the kernel ------------------------------------------------------------------------------------------------

_MOST_THREADS = 256
_VECTORS_PER_THREAD = 4  # fewer would leave more to the reduction than to the sums


def _launch(kernel: str, arrays: tuple[Array, ...], x: Array, *scalars: Any) -> None:
    """One block for each plane of ``x``, which has the shape of the images in both directions."""
    if x.size == 0:
        return
    arrays = tuple(map(get_array_module(x).ascontiguousarray, arrays))
    pixels = prod(x.shape[2:])
    together = vector(pixels, *arrays)
    index = cuda.index_type(x.size)
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": index, "VECTOR": together}
    warps = -(-pixels // (together * _VECTORS_PER_THREAD * 32))
    threads = min(32 * warps, _MOST_THREADS)
    grid = (x.shape[0] * x.shape[1],)
    cuda.launch("global_pool.cu", kernel, macros, grid, (threads,), [*arrays, np.int32(pixels), *scalars])
