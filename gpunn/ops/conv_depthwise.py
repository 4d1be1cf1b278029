"""Depthwise convolution, NCHW, with its gradients: each channel of x is a group of its own.

    y[n,k,oh,ow] = b[k] + sum_{r,s} w[k,0,r,s] x[n, k // m, oh*stride - pad + r*dilation, ow*stride - pad + s*dilation]

x is (N, C, H, W), w is (K, 1, KH, KW), ``m = K / C``. :mod:`gpunn.ops.conv_nd` checks the arguments and comes here when
:func:`takes` says so. Source: Sifre 2014, "Rigid-motion scattering for image classification", 6.2.

CUDA: ``kernels/conv_depthwise.cu``. Without it: a product and a sum of whole planes for each element of the filter.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.errors import ShapeError, check
from gpunn.ops.window import Size, Window

# With so many output channels to a group, or more, the smallest tile of a matrix product is filled.
_ROWS_OF_A_TILE = 16
# The kernels hold a filter in registers.
_LARGEST_FILTER = 7


def takes(channels: int, out_channels: int, win: Window, groups: int) -> bool:
    """True if every channel is a group of its own, with few output channels and a small filter."""
    few = out_channels < _ROWS_OF_A_TILE * groups
    return 1 < groups == channels and few and max(win.kernel) <= _LARGEST_FILTER


def forward(x: Array, w: Array, b: Array | None, win: Window, out: Size, relu: bool = False) -> Array:
    """y (N, K, OH, OW), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    xp = get_array_module(x)
    (n, c), k = x.shape[:2], w.shape[0]
    if cuda.takes(x):
        y = xp.empty((n, k, *out), x.dtype)
        bias = w if b is None else b  # the kernel does not read it if has_bias is 0
        flags = (np.int32(b is not None), np.int32(relu))
        _launch("depthwise_forward", _planes(y), [x, w, bias, y, *flags], x.shape, k, win, out)
        return y
    padded, filters = _pad(xp, x, win), _filters(w, c)
    y = xp.zeros((n, c, k // c, *out), padded.dtype)
    for tap, view in enumerate(win.views(padded, out)):
        y += view[:, :, None] * filters[:, :, tap, None, None]
    y = y.reshape(n, k, *out)
    if b is not None:
        y += b.astype(y.dtype, copy=False)[:, None, None]
    if relu:
        xp.maximum(y, 0, out=y)
    return y.astype(x.dtype, copy=False)


def backward_x(gy: Array, w: Array, x_shape: Size, win: Window, out: Size) -> Array:
    """gx (N, C, H, W) from gy (N, K, OH, OW)."""
    xp = get_array_module(gy)
    (n, c, *size), k = x_shape, w.shape[0]
    if cuda.takes(gy):
        gx = xp.empty(x_shape, gy.dtype)
        _launch("depthwise_backward_x", _planes(gx), [gy, w, gx], x_shape, k, win, out)
        return gx
    padded = xp.zeros((n, c, *win.reach(tuple(size), out)), accumulation_dtype(gy.dtype))
    grouped, filters = gy.reshape(n, c, k // c, *out), _filters(w, c)
    for tap, view in enumerate(win.views(padded, out)):
        view += (grouped * filters[:, :, tap, None, None]).sum(2)
    return xp.ascontiguousarray(win.crop(padded, tuple(size)), dtype=gy.dtype)


def backward_w(gy: Array, x: Array, w_shape: Size, win: Window, out: Size) -> Array:
    """gw (K, 1, KH, KW) from gy (N, K, OH, OW), summed over the batch."""
    xp = get_array_module(gy)
    (n, c), k = x.shape[:2], w_shape[0]
    if cuda.takes(gy) and x.size:
        gw = xp.empty(w_shape, gy.dtype)
        _launch("depthwise_backward_w", (k, win.kernel[0]), [gy, x, gw], x.shape, k, win, out)
        return gw
    padded, grouped = _pad(xp, x, win), gy.reshape(n, c, k // c, *out)
    gw = xp.empty((c, k // c, prod(win.kernel)), padded.dtype)
    for tap, view in enumerate(win.views(padded, out)):
        gw[:, :, tap] = (grouped * view[:, :, None]).sum((0, 3, 4))
    return gw.reshape(w_shape).astype(gy.dtype, copy=False)


# ---- without the kernel ---------------------------------------------------------------------------------------------


def _pad(xp: Any, x: Array, win: Window) -> Array:
    return xp.pad(x.astype(accumulation_dtype(x.dtype), copy=False), ((0, 0), (0, 0), *win.pads))


def _filters(w: Array, channels: int) -> Array:
    """w as (C, m, KH * KW)."""
    return w.astype(accumulation_dtype(w.dtype), copy=False).reshape(channels, w.shape[0] // channels, -1)


# ---- with the kernel ------------------------------------------------------------------------------------------------

# Of kernels/conv_depthwise.cu.
_THREADS = 128
_PIXELS = 4
_MAX_BLOCKS_Y = 65535


def _planes(y: Array) -> tuple[int, int]:
    """The grid over the elements of y: its planes, and the parts of a plane."""
    return y.shape[0] * y.shape[1], -(-y.shape[2] * y.shape[3] // (_THREADS * _PIXELS))


def _launch(
    kernel: str, grid: tuple[int, int], args: list[Any], x_shape: tuple[int, ...], k: int, win: Window, out: Size
) -> None:
    if grid[0] * grid[1] == 0:
        return
    rule = f"CUDA takes at most {_MAX_BLOCKS_Y} parts of an image"
    check(grid[1] <= _MAX_BLOCKS_Y, ShapeError, "conv2d", rule, got=grid[1])
    n, c, height, width = x_shape
    pads, planes = (win.pads[0][0], win.pads[1][0]), max(c * height * width, k * out[0] * out[1])
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(args[0]), "INDEX": cuda.index_type(n * planes), "KH": win.kernel[0], "KW": win.kernel[1],
    }  # fmt: skip
    xp = get_array_module(args[0])
    packed = [a if isinstance(a, np.generic) else xp.ascontiguousarray(a) for a in args]
    integers = (n, c, height, width, k // c, *out, *win.stride, *pads, *win.dilation)
    cuda.launch("conv_depthwise.cu", kernel, macros, grid, (_THREADS,), [*packed, *map(np.int32, integers)])
