"""Depthwise convolution of images by ``kernels/conv_depthwise.cu``: each channel of x is a group of its own.

    y[n,k,oh,ow] = b[k] + sum_{r,s} w[k,0,r,s] x[n, k // m, oh*stride - pad + r*dilation, ow*stride - pad + s*dilation]

x is (N, C, H, W), w is (K, 1, KH, KW), ``m = K / C``. Source: Sifre 2014, "Rigid-motion scattering for image
classification", 6.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.errors import ShapeError, check
from gpunn.ops.conv.geometry import Plan

# With so many output channels to a group, or more, the smallest tile of a matrix product is filled.
_ROWS_OF_A_TILE = 16
# The kernels hold a filter in registers.
_LARGEST_FILTER = 7


def is_depthwise(plan: Plan) -> bool:
    """True if every channel of images is a group of its own, with few output channels and a small filter."""
    few = plan.w_shape[0] < _ROWS_OF_A_TILE * plan.groups
    return plan.rank == 2 and 1 < plan.groups == plan.x_shape[1] and few and max(plan.window.kernel) <= _LARGEST_FILTER


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for a :func:`is_depthwise` where kernels run."""
    return is_depthwise(plan) and cuda.takes(x)


def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, OH, OW), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    y = get_array_module(x).empty(plan.y_shape, x.dtype)
    bias = w if b is None else b  # the kernel does not read it if has_bias is 0
    flags = (np.int32(b is not None), np.int32(relu))
    _launch(plan, "depthwise_forward", _planes(y), [x, w, bias, y, *flags])
    return y


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, H, W) from gy (N, K, OH, OW)."""
    gx = get_array_module(gy).empty(plan.x_shape, gy.dtype)
    _launch(plan, "depthwise_backward_x", _planes(gx), [gy, w, gx])
    return gx


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """gw (K, 1, KH, KW) from gy (N, K, OH, OW), summed over the batch."""
    xp = get_array_module(gy)
    if x.size == 0:
        return xp.zeros(plan.w_shape, gy.dtype)
    gw = xp.empty(plan.w_shape, gy.dtype)
    _launch(plan, "depthwise_backward_w", (plan.w_shape[0], plan.window.kernel[0]), [gy, x, gw])
    return gw


_THREADS = 128
_PIXELS = 4  # that a thread writes
_MAX_BLOCKS_Y = 65535


def _planes(y: Array) -> tuple[int, int]:
    """The grid over the elements of y: its planes, and the parts of a plane."""
    return y.shape[0] * y.shape[1], -(-y.shape[2] * y.shape[3] // (_THREADS * _PIXELS))


def _launch(plan: Plan, kernel: str, grid: tuple[int, int], args: list[Any]) -> None:
    if grid[0] * grid[1] == 0:
        return
    rule = f"CUDA takes at most {_MAX_BLOCKS_Y} parts of an image"
    check(grid[1] <= _MAX_BLOCKS_Y, ShapeError, plan.op, rule, got=grid[1])
    (n, c, height, width), (_, k, *out), win = plan.x_shape, plan.y_shape, plan.window
    pads, planes = (win.pads[0][0], win.pads[1][0]), max(c * height * width, k * out[0] * out[1])
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(args[0]), "INDEX": cuda.index_type(n * planes), "KH": win.kernel[0], "KW": win.kernel[1],
        "THREADS": _THREADS, "PIXELS": _PIXELS,
    }  # fmt: skip
    xp = get_array_module(args[0])
    packed = [a if isinstance(a, np.generic) else xp.ascontiguousarray(a) for a in args]
    integers = (n, c, height, width, k // c, *out, *win.stride, *pads, *win.dilation)
    cuda.launch("conv_depthwise.cu", kernel, macros, grid, (_THREADS,), [*packed, *map(np.int32, integers)])
