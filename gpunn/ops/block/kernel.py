"""AlexNet's blocks by ``kernels/block.cu``: the exponents 0.75 and 0.5, and windows that fit into a block's tile."""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.ops.block.geometry import Plan
from gpunn.ops.norm.lrn_kernel import ROOTS, channels_per_part
from gpunn.ops.shared.window import Window

_THREADS = 256
_WINDOWS = 8, 32  # rows and columns of windows, one for each thread
_TILE = 7, 16  # rows and columns of y, an element a thread
_MOST_HELD = 1024  # elements that a block normalises for its tile of y: 4 windows over channels in a thread's registers
_MOST_SIZE = 5  # AlexNet's; the windows of more channels leave the registers


def takes(plan: Plan, x: Array) -> bool:
    """True where kernels run, for arrays that hold something and settings that fit."""
    win, size, beta = plan.pool.window, plan.lrn.size, plan.lrn.beta
    held = [(t - 1) * s + f for t, s, f in zip(_TILE, win.stride, win.kernel, strict=True)]
    fits = held[0] * held[1] <= _MOST_HELD and max(_before(win)) <= 2
    return cuda.takes(x) and x.size > 0 and beta in ROOTS and size <= _MOST_SIZE and fits


def pool_lrn(plan: Plan, x: Array, b: Array) -> tuple[Array, Array, Array]:
    """(y, pooled, place)."""
    xp = get_array_module(x)
    y, pooled, place = (xp.empty(plan.pool.y_shape, dtype) for dtype in (x.dtype, x.dtype, plan.pool.place_dtype))
    _launch(plan, f"{plan.op}_forward", (x, b, y, pooled, place), y.size // y.shape[1])
    return y, pooled, place


def pool_lrn_backward(plan: Plan, gy: Array, pooled: Array, place: Array) -> tuple[Array, Array]:
    """gx and gb."""
    xp, win, (n, c, h, w) = get_array_module(gy), plan.pool.window, plan.pool.x_shape
    gx = xp.empty(plan.pool.x_shape, gy.dtype)
    tile_h, tile_w = ((w - _before(win)[i]) * win.stride[i] for i, w in enumerate(_WINDOWS))
    blocks = n * -(-(h + win.pads[0][0]) // tile_h) * -(-(w + win.pads[1][0]) // tile_w)
    sums = xp.empty((c, blocks), gy.dtype)
    _launch(plan, f"{plan.op}_backward", (gy, pooled, place, gx, sums), blocks * _THREADS)
    return gx, sums.sum(1)


def lrn_pool(plan: Plan, x: Array, b: Array) -> tuple[Array, Array]:
    """(y, place)."""
    xp, (n, _, oh, ow) = get_array_module(x), plan.pool.y_shape
    y, place = (xp.empty(plan.pool.y_shape, dtype) for dtype in (x.dtype, plan.pool.place_dtype))
    blocks = n * -(-oh // _TILE[0]) * -(-ow // _TILE[1])
    _launch(plan, f"{plan.op}_forward", (x, b, y, place), blocks * _THREADS)
    return y, place


def lrn_pool_backward(plan: Plan, gy: Array, x: Array, b: Array, place: Array) -> tuple[Array, Array]:
    """gx and gb."""
    xp = get_array_module(x)
    gx = xp.empty(x.shape, x.dtype)
    threads = -(-x.size // (x.shape[1] * _THREADS)) * _THREADS
    sums = xp.empty((x.shape[1], threads // 32), x.dtype)
    _launch(plan, f"{plan.op}_backward", (gy, x, b, place, gx, sums), threads)
    return gx, sums.sum(1)


def _before(win: Window) -> tuple[int, int]:
    """Windows before a tile that reach into it: BEFORE_H, BEFORE_W of the kernel."""
    return (win.kernel[0] - 1) // win.stride[0], (win.kernel[1] - 1) // win.stride[1]


def _launch(plan: Plan, kernel: str, arrays: tuple[Array, ...], threads: int) -> None:
    xp, dtype, win, lrn = get_array_module(arrays[0]), arrays[0].dtype, plan.pool.window, plan.lrn
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(arrays[0]),
        "INDEX": cuda.index_type(*(a.size for a in arrays)),
        "SIZE": lrn.size,
        "BETA": ROOTS[lrn.beta],
        "KH": win.kernel[0],
        "KW": win.kernel[1],
        "SH": win.stride[0],
        "SW": win.stride[1],
        "PLACE": "unsigned char" if plan.pool.place_dtype == np.uint8 else "int",
        "THREADS": _THREADS,
        "WINDOWS_H": _WINDOWS[0],
        "WINDOWS_W": _WINDOWS[1],
        "TILE_H": _TILE[0],
        "TILE_W": _TILE[1],
    }
    n, c, h, w = plan.pool.x_shape
    per_part = channels_per_part(threads, c, lrn.size)
    integers = (n, c, per_part, h, w, *plan.pool.out, win.pads[0][0], win.pads[1][0])
    grid = (-(-threads // _THREADS), -(-c // per_part))
    factors = map(dtype.type, (lrn.a, lrn.beta, lrn.k))
    args = [*map(xp.ascontiguousarray, arrays), *map(np.int32, integers), *factors]
    cuda.launch("block.cu", kernel, macros, grid, (_THREADS,), args)
