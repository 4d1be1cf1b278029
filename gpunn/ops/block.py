"""What follows a convolution in AlexNet, fused: bias, ReLU, local response normalisation, max pooling; both orders.

    bias_relu_pool_lrn: y = lrn(max_pool(max(x + b, 0)))         bias_relu_lrn_pool: y = max_pool(lrn(max(x + b, 0)))

x is (N, C, H, W), b is (C,), y is (N, C, OH, OW). Formulas and rules are those of :mod:`gpunn.ops.pool` and
:mod:`gpunn.ops.lrn`; the defaults are AlexNet's. Source: Krizhevsky et al. 2012, sections 3.1 to 3.4, which normalises
before it pools.

CUDA: ``kernels/block.cu``, for the exponents 0.75 and 0.5 and windows that fit into a block's tile. Without it: the
operations one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops import activation, lrn, pool
from gpunn.ops.lrn import AlphaMode
from gpunn.ops.pool_window import check_place, geometry, place_dtype
from gpunn.ops.window import Pair, Size, Window, check_image, check_shape


def bias_relu_pool_lrn(
    x: Array,
    b: Array,
    kernel_size: Pair = 3,
    stride: Pair | None = 2,
    padding: Pair = 0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    alpha_mode: AlphaMode = "sum",
) -> tuple[Array, Array, Array]:
    """Pool, then normalise: (y, pooled, place). Backward needs ``pooled`` and ``place``, and no longer x.

    >>> y, pooled, place = bias_relu_pool_lrn(np.ones((1, 96, 55, 55), np.float32), np.zeros(96, np.float32))
    >>> y.shape, pooled.shape, place.dtype.name
    ((1, 96, 27, 27), (1, 96, 27, 27), 'uint8')

    Raises ShapeError unless b has one element for each channel of x, and what the two operations raise.
    """
    op = "bias_relu_pool_lrn"
    xp, a = _check(op, x, b, size, (alpha, beta, k), alpha_mode)
    win, out = geometry(op, x.shape, kernel_size, stride, padding, 1, False)
    if not _takes(x, win, size, beta):
        pooled, place = pool.max_pool2d(activation.relu(x + b[:, None, None]), kernel_size, stride, padding)
        return lrn.local_response_norm(pooled, size, alpha, beta, k, alpha_mode), pooled, place
    y, pooled = (xp.empty((*x.shape[:2], *out), x.dtype) for _ in range(2))
    place = xp.empty(y.shape, place_dtype(win))
    threads = y.size // y.shape[1]
    _launch(op + "_forward", (x, b, y, pooled, place), x.shape, out, win, size, (a, beta, k), threads)
    return y, pooled, place


def bias_relu_pool_lrn_backward(
    gy: Array,
    pooled: Array,
    place: Array,
    x_shape: Size,
    kernel_size: Pair = 3,
    stride: Pair | None = 2,
    padding: Pair = 0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    alpha_mode: AlphaMode = "sum",
) -> tuple[Array, Array]:
    """The gradients with respect to x and b."""
    op = "bias_relu_pool_lrn_backward"
    xp = operands(op, gy=gy, pooled=pooled)
    a = lrn.effective_alpha(op, pooled, size, alpha, beta, k, alpha_mode)
    win, out = geometry(op, x_shape, kernel_size, stride, padding, 1, False)
    for name, array in (("gy", gy), ("pooled", pooled)):
        check_shape(op, name, array, (*x_shape[:2], *out))
    check_place(op, place, gy.shape, place_dtype(win))
    if not _takes(gy, win, size, beta):
        g = lrn.local_response_norm_backward(gy, pooled, size, alpha, beta, k, alpha_mode)
        # An element has the gradient of the windows that it is the maximum of: ReLU's slope is the same in all of them.
        g = activation.relu_backward(g, pooled)
        gx = pool.max_pool2d_backward(g, place, x_shape, kernel_size, stride, padding)
        return gx, _bias_gradient(gx)
    gx = xp.empty(x_shape, gy.dtype)
    tile_h, tile_w = ((w - _before(win)[i]) * win.stride[i] for i, w in enumerate(_WINDOWS))
    blocks = x_shape[0] * -(-(x_shape[2] + win.pads[0][0]) // tile_h) * -(-(x_shape[3] + win.pads[1][0]) // tile_w)
    sums = xp.empty((x_shape[1], blocks), gy.dtype)
    _launch(op, (gy, pooled, place, gx, sums), x_shape, out, win, size, (a, beta, k), blocks * _THREADS)
    return gx, sums.sum(1)


def bias_relu_lrn_pool(
    x: Array,
    b: Array,
    kernel_size: Pair = 3,
    stride: Pair | None = 2,
    padding: Pair = 0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    alpha_mode: AlphaMode = "sum",
) -> tuple[Array, Array]:
    """Normalise, then pool: (y, place). Backward needs ``place``, x and b: what lies between is computed again.

    >>> y, place = bias_relu_lrn_pool(np.ones((1, 96, 55, 55), np.float32), np.zeros(96, np.float32))
    >>> y.shape, place.dtype.name
    ((1, 96, 27, 27), 'uint8')

    Raises ShapeError unless b has one element for each channel of x, and what the two operations raise.
    """
    op = "bias_relu_lrn_pool"
    xp, a = _check(op, x, b, size, (alpha, beta, k), alpha_mode)
    win, out = geometry(op, x.shape, kernel_size, stride, padding, 1, False)
    if not _takes(x, win, size, beta):
        r = activation.relu(x + b[:, None, None])
        normalised = lrn.local_response_norm(r, size, alpha, beta, k, alpha_mode)
        return pool.max_pool2d(normalised, kernel_size, stride, padding)
    y = xp.empty((*x.shape[:2], *out), x.dtype)
    place = xp.empty(y.shape, place_dtype(win))
    blocks = x.shape[0] * -(-out[0] // _TILE[0]) * -(-out[1] // _TILE[1])
    _launch(op + "_forward", (x, b, y, place), x.shape, out, win, size, (a, beta, k), blocks * _THREADS)
    return y, place


def bias_relu_lrn_pool_backward(
    gy: Array,
    x: Array,
    b: Array,
    place: Array,
    kernel_size: Pair = 3,
    stride: Pair | None = 2,
    padding: Pair = 0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    alpha_mode: AlphaMode = "sum",
) -> tuple[Array, Array]:
    """The gradients with respect to x and b."""
    op = "bias_relu_lrn_pool_backward"
    operands(op, gy=gy, x=x)
    xp, a = _check(op, x, b, size, (alpha, beta, k), alpha_mode)
    win, out = geometry(op, x.shape, kernel_size, stride, padding, 1, False)
    check_shape(op, "gy", gy, (*x.shape[:2], *out))
    check_place(op, place, gy.shape, place_dtype(win))
    if not _takes(x, win, size, beta):
        r = activation.relu(x + b[:, None, None])
        g = pool.max_pool2d_backward(gy, place, x.shape, kernel_size, stride, padding)
        gx = activation.relu_backward(lrn.local_response_norm_backward(g, r, size, alpha, beta, k, alpha_mode), r)
        return gx, _bias_gradient(gx)
    gx = xp.empty(x.shape, x.dtype)
    threads = -(-x.size // (x.shape[1] * _THREADS)) * _THREADS
    sums = xp.empty((x.shape[1], threads // 32), x.dtype)
    _launch(op, (gy, x, b, place, gx, sums), x.shape, out, win, size, (a, beta, k), threads)
    return gx, sums.sum(1)


def _check(
    op: str, x: Array, b: Array, size: int, factors: tuple[float, float, float], alpha_mode: str
) -> tuple[Any, float]:
    """The array module, and the factor of the squares."""
    xp = operands(op, x=x, b=b)
    check_image(op, "x", x)
    fits = b.shape == (x.shape[1],)
    check(fits, ShapeError, op, "b must have one element for each channel", b=b.shape, channels=x.shape[1])
    return xp, lrn.effective_alpha(op, x, size, *factors, alpha_mode)


def _bias_gradient(gx: Array) -> Array:
    return gx.sum((0, 2, 3), dtype=accumulation_dtype(gx.dtype)).astype(gx.dtype, copy=False)


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 256
_WINDOWS = 8, 32  # WINDOWS_H, WINDOWS_W of the kernel
_TILE = 7, 16  # TILE_H, TILE_W
_MOST_HELD = 1024  # elements that a block normalises for its tile of y: 4 windows over channels in a thread's registers
_MOST_SIZE = 5  # AlexNet's; the windows of more channels leave the registers


def _before(win: Window) -> tuple[int, int]:
    """Windows before a tile that reach into it: BEFORE_H, BEFORE_W of the kernel."""
    return (win.kernel[0] - 1) // win.stride[0], (win.kernel[1] - 1) // win.stride[1]


def _takes(x: Array, win: Window, size: int, beta: float) -> bool:
    held = [(t - 1) * s + f for t, s, f in zip(_TILE, win.stride, win.kernel, strict=True)]
    fits = held[0] * held[1] <= _MOST_HELD and max(_before(win)) <= 2
    return cuda.takes(x) and x.size > 0 and beta in lrn.ROOTS and size <= _MOST_SIZE and fits


def _launch(
    kernel: str,
    arrays: tuple[Array, ...],
    x_shape: Size,
    out: Size,
    win: Window,
    size: int,
    factors: tuple[float, float, float],
    threads: int,
) -> None:
    xp, dtype = operands(kernel, first=arrays[0]), arrays[0].dtype
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(arrays[0]),
        "INDEX": cuda.index_type(*(a.size for a in arrays)),
        "SIZE": size,
        "BETA": lrn.ROOTS[factors[1]],
        "KH": win.kernel[0],
        "KW": win.kernel[1],
        "SH": win.stride[0],
        "SW": win.stride[1],
        "PLACE": "unsigned char" if place_dtype(win) == np.uint8 else "int",
    }
    n, c, h, w = x_shape
    per_part = lrn.channels_per_part(threads, c, size)
    integers = (n, c, per_part, h, w, *out, win.pads[0][0], win.pads[1][0])
    grid = (-(-threads // _THREADS), -(-c // per_part))
    args = [*map(xp.ascontiguousarray, arrays), *map(np.int32, integers), *map(dtype.type, factors)]
    cuda.launch("block.cu", kernel, macros, grid, (_THREADS,), args)
