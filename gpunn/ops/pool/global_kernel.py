"""Global pooling by ``kernels/global_pool.cu``."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.vector import vector


def takes(x: Array) -> bool:
    """True where kernels run, of half types too."""
    return cuda.takes(x, half=True)


def avg_forward(x: Array) -> Array:
    """The mean of each plane, (N, C, 1, ...)."""
    y = get_array_module(x).empty(_y_shape(x), x.dtype)
    _launch("global_avg_pool2d_forward", (x, y), x)
    return y


def avg_backward(gy: Array, x_shape: Size) -> Array:
    """gx: gy, divided by the number of pixels, at each pixel."""
    gx = get_array_module(gy).empty(x_shape, gy.dtype)
    _launch("global_avg_pool2d_backward", (gy, gx), gx, accumulation_dtype(gy.dtype).type(1 / prod(x_shape[2:])))
    return gx


def max_forward(x: Array) -> tuple[Array, Array]:
    """The maximum of each plane and its place, (N, C, 1, ...)."""
    y, place = (get_array_module(x).empty(_y_shape(x), dtype) for dtype in (x.dtype, np.int32))
    _launch("global_max_pool2d_forward", (x, y, place), x)
    return y, place


def max_backward(gy: Array, place: Array, x_shape: Size) -> Array:
    """gx: gy at the place of each maximum, 0 elsewhere."""
    gx = get_array_module(gy).empty(x_shape, gy.dtype)
    _launch("global_max_pool2d_backward", (gy, place, gx), gx)
    return gx


def _y_shape(x: Array) -> Size:
    return (*x.shape[:2], *(1,) * (x.ndim - 2))


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
    macros["MOST_THREADS"] = _MOST_THREADS
    warps = -(-pixels // (together * _VECTORS_PER_THREAD * 32))
    threads = min(32 * warps, _MOST_THREADS)
    grid = (x.shape[0] * x.shape[1],)
    cuda.launch("global_pool.cu", kernel, macros, grid, (threads,), [*arrays, np.int32(pixels), *scalars])
