"""Depthwise convolution, NCHW, with its gradients: each channel of x is a group of its own.

    y[n,k,oh,ow] = b[k] + sum_{r,s} w[k,0,r,s] x[n, k // m, oh*stride - pad + r*dilation, ow*stride - pad + s*dilation]

x is (N, C, H, W), w is (K, 1, KH, KW), ``m = K / C``. :mod:`gpunn.ops.conv_nd` checks the arguments and comes here when
:func:`takes` says so. Source: Sifre 2014, "Rigid-motion scattering for image classification", 6.2.

CUDA: ``kernels/conv_depthwise.cu``. Without it: for each plane a matrix product of its few filters
with its windows.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.errors import ShapeError, check
from gpunn.ops.blocks import blocks
from gpunn.ops.phases import Phases
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
    acc, each = accumulation_dtype(x.dtype), k // c
    y, phases, filters = xp.empty((n, k, *out), x.dtype), Phases(win, x.shape[2:], out), _filters(xp, w, n, c)
    bias = None if b is None else xp.tile(b.astype(acc, copy=False).reshape(c, each, 1), (n, 1, 1))
    planes, y_planes = x.reshape(n * c, *x.shape[2:]), y.reshape(n * c, each, *out)
    for part in blocks(xp, n * c, len(phases.taps) * phases.pixels * acc.itemsize):
        columns = xp.empty((len(planes[part]), len(phases.taps), phases.pixels), acc)
        for tap, view in enumerate(_views(xp, planes[part], phases, acc)):
            columns[:, tap] = view
        total = xp.matmul(filters[part], columns)
        if bias is not None:
            total += bias[part]
        if relu:
            xp.maximum(total, 0, out=total)
        y_planes[part] = phases.crop(total)
    return y


def backward_x(gy: Array, w: Array, x_shape: Size, win: Window, out: Size) -> Array:
    """gx (N, C, H, W) from gy (N, K, OH, OW)."""
    xp = get_array_module(gy)
    (n, c, *size), k = x_shape, w.shape[0]
    if cuda.takes(gy):
        gx = xp.empty(x_shape, gy.dtype)
        _launch("depthwise_backward_x", _planes(gx), [gy, w, gx], x_shape, k, win, out)
        return gx
    acc, each = accumulation_dtype(gy.dtype), k // c
    gx, phases = xp.empty(x_shape, gy.dtype), Phases(win, tuple(size), out)
    planes, gy_planes, filters = gx.reshape(n * c, *size), gy.reshape(n * c, each, *out), _filters(xp, w, n, c)
    for part in blocks(xp, n * c, phases.elements * acc.itemsize):
        buffer, g = phases.empty(xp, len(planes[part]), 0, acc), _on_grid(xp, gy_planes[part], phases, acc)
        for m in range(each):
            for tap, view in enumerate(phases.views(buffer)):
                term = g[:, m] * filters[part, m, tap, None]
                view += term.reshape(-1)
        phases.join(buffer, planes[part])
    return gx


def backward_w(gy: Array, x: Array, w_shape: Size, win: Window, out: Size) -> Array:
    """gw (K, 1, KH, KW) from gy (N, K, OH, OW), summed over the batch."""
    xp = get_array_module(gy)
    (n, c), k = x.shape[:2], w_shape[0]
    if cuda.takes(gy) and x.size:
        gw = xp.empty(w_shape, gy.dtype)
        _launch("depthwise_backward_w", (k, win.kernel[0]), [gy, x, gw], x.shape, k, win, out)
        return gw
    acc, each = accumulation_dtype(gy.dtype), k // c
    gw, phases = xp.empty((n * c, each, prod(win.kernel)), acc), Phases(win, x.shape[2:], out)
    planes, gy_planes = x.reshape(n * c, *x.shape[2:]), gy.reshape(n * c, each, *out)
    for part in blocks(xp, n * c, phases.elements * acc.itemsize):
        g = _on_grid(xp, gy_planes[part], phases, acc)
        for tap, view in enumerate(_views(xp, planes[part], phases, acc)):
            gw[part, :, tap] = xp.matmul(g, view[:, :, None])[:, :, 0]
    return gw.reshape(n, *w_shape).sum(0).astype(gy.dtype, copy=False)


# ---- without the kernel ---------------------------------------------------------------------------------------------


def _views(xp: Any, planes: Array, phases: Phases, acc: Any) -> list[Array]:
    """What ``planes`` (P, H, W) hold at each element of the windows: (P, pixels of the grid)."""
    buffer = phases.empty(xp, len(planes), 0, acc)
    phases.split(planes, buffer)
    return [view.reshape(len(planes), phases.pixels) for view in phases.views(buffer)]


def _on_grid(xp: Any, gy: Array, phases: Phases, acc: Any) -> Array:
    """gy (P, m, OH, OW) as (P, m, pixels of the grid), zeros outside the output."""
    g = xp.zeros((*gy.shape[:2], phases.pixels), acc)
    phases.crop(g)[...] = gy
    return g


def _filters(xp: Any, w: Array, n: int, channels: int) -> Array:
    """w as (N * C, m, KH * KW), a filter for each plane of x."""
    filters = w.astype(accumulation_dtype(w.dtype), copy=False).reshape(channels, w.shape[0] // channels, -1)
    return xp.tile(filters, (n, 1, 1))


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
