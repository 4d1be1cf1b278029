"""Global average and max pooling: each plane (H, W) to one number, NCHW, forward and backward.

    avg: y[n,c] = sum of x over the plane / (H W)          max: y[n,c] = max of x over the plane

x is (N, C, H, W), y is (N, C, 1, 1). The first maximum (in row-major order) wins a tie; NaN wins over every number,
the last NaN over the others. Forward max pooling also returns ``place``, the index of each maximum in its flattened
plane, int32. Source: Lin, Chen and Yan 2014, "Network in network", section 3.2.

CUDA: ``kernels/global_pool.cu``. Without it: reductions over the flattened planes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.pool_window import Shape4, check_place
from gpunn.ops.vector import vector
from gpunn.ops.window import check_image, check_shape


def global_avg_pool2d(x: Array) -> Array:
    """The mean of each plane, (N, C, 1, 1).

    >>> global_avg_pool2d(np.arange(8.0).reshape(1, 2, 2, 2)).ravel().tolist()
    [1.5, 5.5]

    Raises ShapeError unless x is (N, C, H, W) with a pixel at least.
    """
    xp = operands("global_avg_pool2d", x=x)
    check_image("global_avg_pool2d", "x", x)
    _pixels("global_avg_pool2d", x.shape)
    if cuda.takes(x):
        y = xp.empty((*x.shape[:2], 1, 1), x.dtype)
        _launch("global_avg_pool2d_forward", (x, y), x)
        return y
    return x.mean((2, 3), keepdims=True, dtype=accumulation_dtype(x.dtype)).astype(x.dtype, copy=False)


def global_avg_pool2d_backward(gy: Array, x_shape: Shape4) -> Array:
    """The gradient with respect to x: gy / (H W) at each pixel."""
    op = "global_avg_pool2d_backward"
    xp = operands(op, gy=gy)
    pixels = _pixels(op, x_shape)
    check_shape(op, "gy", gy, (*x_shape[:2], 1, 1))
    gx = xp.empty(x_shape, gy.dtype)
    if cuda.takes(gy):
        _launch("global_avg_pool2d_backward", (gy, gx), gx, gy.dtype.type(1 / pixels))
    else:
        gx[...] = gy / gy.dtype.type(pixels)
    return gx


def global_max_pool2d(x: Array) -> tuple[Array, Array]:
    """The maximum of each plane and its place in the flattened plane, both (N, C, 1, 1).

    >>> y, place = global_max_pool2d(np.float32([[[[1, 7], [3, 7]]]]))
    >>> y.item(), place.item(), place.dtype.name
    (7.0, 1, 'int32')

    Raises ShapeError unless x is (N, C, H, W) with a pixel at least.
    """
    xp = operands("global_max_pool2d", x=x)
    check_image("global_max_pool2d", "x", x)
    pixels = _pixels("global_max_pool2d", x.shape)
    if cuda.takes(x):
        y, place = (xp.empty((*x.shape[:2], 1, 1), dtype) for dtype in (x.dtype, np.dtype(np.int32)))
        _launch("global_max_pool2d_forward", (x, y, place), x)
        return y, place
    planes = x.reshape(*x.shape[:2], pixels)
    y = planes.max(2, keepdims=True)
    last_nan = pixels - 1 - (planes != planes)[:, :, ::-1].argmax(2)  # NaN equals nothing: no first maximum
    place = xp.where(y[:, :, 0] == y[:, :, 0], (planes == y).argmax(2), last_nan).astype(np.int32)
    return y[..., None], place[:, :, None, None]


def global_max_pool2d_backward(gy: Array, place: Array, x_shape: Shape4) -> Array:
    """The gradient with respect to x: gy at the place of each maximum, 0 elsewhere."""
    op = "global_max_pool2d_backward"
    xp = operands(op, gy=gy)
    pixels = _pixels(op, x_shape)
    check_shape(op, "gy", gy, (*x_shape[:2], 1, 1))
    check_place(op, place, gy.shape, np.dtype(np.int32))
    if cuda.takes(gy):
        gx = xp.empty(x_shape, gy.dtype)
        _launch("global_max_pool2d_backward", (gy, place, gx), gx)
        return gx
    return (gy * (xp.arange(pixels) == place[..., 0])[:, :, None]).reshape(x_shape)


def _pixels(op: str, x_shape: tuple[int, ...]) -> int:
    """The pixels of a plane; an int32 has to count them."""
    pixels = x_shape[2] * x_shape[3]
    check(0 < pixels < 2**31, ShapeError, op, "a plane must have 1 to 2^31 - 1 pixels", shape=x_shape)
    return pixels


# ---- with the kernel ------------------------------------------------------------------------------------------------

_MOST_THREADS = 256
_VECTORS_PER_THREAD = 4  # fewer would leave more to the reduction than to the sums


def _launch(kernel: str, arrays: tuple[Array, ...], x: Array, *scalars: Any) -> None:
    """One block for each plane of ``x``, which has the shape of the images in both directions."""
    if x.size == 0:
        return
    arrays = tuple(map(get_array_module(x).ascontiguousarray, arrays))
    pixels = x.shape[2] * x.shape[3]
    together = vector(pixels, *arrays)
    index = cuda.index_type(x.size)
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": index, "VECTOR": together}
    warps = -(-pixels // (together * _VECTORS_PER_THREAD * 32))
    threads = min(32 * warps, _MOST_THREADS)
    grid = (x.shape[0] * x.shape[1],)
    cuda.launch("global_pool.cu", kernel, macros, grid, (threads,), [*arrays, np.int32(pixels), *scalars])
