"""Convolution of images in bf16 by ``wgmma`` and tensor maps, on GPUs of compute capability 9.0.

The forward pass, by ``kernels/conv_hopper.cu``, of arrays that :mod:`gpunn.ops.conv.tensor_cores` rounds to bf16 as
well; that one computes the other passes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn import backend, cuda
from gpunn.backend import Array, dtype_name, get_array_module
from gpunn.cuda.tensor_maps import tensor_map
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.conv.tensor_core_launch import HALVES, find_setting, pack
from gpunn.ops.conv.tensor_core_tiles import Tiling
from gpunn.ops.conv.tiles import MAX_BLOCKS_YZ

_ROWS, _COLUMNS, _DEPTH = 8, 16, 64  # of the pixels and channels of a box
_STAGES, _THREADS = 3, 288
_LEAST = 32  # channels and filters: fewer leave most of a box empty
_LARGEST_STRIDE = 8  # of a tensor map's elements


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for forward passes in bf16 where a GPU has warpgroups, without groups and dilation, of enough channels."""
    if job != "forward" or plan.rank != 2 or plan.groups != 1 or not cuda.takes(x, half=True):
        return False
    precision = HALVES.get(dtype_name(x.dtype)) or (x.dtype == np.float32 and backend.chosen_matmul_precision())
    if precision != "bf16" or not cuda.has_warpgroups(x):
        return False
    win, (filters, channels) = plan.window, plan.w_shape[:2]
    fits = set(win.dilation) == {1} and max(win.stride) <= _LARGEST_STRIDE and filters <= MAX_BLOCKS_YZ * _DEPTH
    return fits and min(filters, channels) >= _LEAST and math.prod(plan.y_shape) > 0


def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, OH, OW); with ``relu``, what is below 0 is 0."""
    xp, setting, win = get_array_module(x, w), find_setting(plan.op, x), plan.window
    (images, channels, *size), (filters, _, *taps) = plan.x_shape, plan.w_shape
    y = xp.empty(plan.y_shape, x.dtype)
    rows = 64 if filters <= 64 else 128
    tiling = Tiling(rows)  # which packing does not look at
    pixels = pack(setting, tiling, x, 1, shared=False).reshape(images, *size, -1)
    packed = pack(setting, tiling, w.reshape(filters, channels, -1), 1, shared=False)
    across_taps = packed.reshape(filters, math.prod(taps), -1)
    (down, across), (top, left) = win.stride, (before for before, _ in win.pads)
    x_box = (1, _ROWS * down, _COLUMNS * across, _DEPTH)
    maps = (
        tensor_map(pixels, x_box, swizzle=128, element_strides=(1, down, across, 1)),
        tensor_map(across_taps, (rows, 1, _DEPTH), swizzle=128),
    )
    bias = y if b is None else xp.ascontiguousarray(b)  # the kernel does not read it if has_bias is 0
    numbers = (b is not None, relu, channels, filters, *taps, *plan.out, down, across, top, left)
    grid = (images * -(-plan.out[0] // _ROWS) * -(-plan.out[1] // _COLUMNS), -(-filters // rows))
    macros: dict[str, Any] = {"DTYPE": setting.dtype, "FILTERS": rows, "STAGES": _STAGES, "THREADS": _THREADS}
    shared = _STAGES * (_ROWS * _COLUMNS + rows) * 2 * _DEPTH
    args = [*maps, bias, y, *map(np.int32, numbers)]
    cuda.launch("conv_hopper.cu", "conv_hopper_forward", macros, grid, (_THREADS,), args, shared)
    return y
