"""Launches of the convolution's kernels, ``kernels/conv.cu``; :mod:`gpunn.ops.conv_nd` checks the arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.cuda.convolution_plan import MAX_BLOCKS_YZ, Configuration, Convolution, Job, choose
from gpunn.errors import ShapeError, check
from gpunn.ops.window import Size, Window

_SUM_THREADS = 256  # of kernels/conv.cu
# What the emulator is planned for: few enough that small problems are not cut into many parts.
_EMULATED_MULTIPROCESSORS = 4


def convolution(x_shape: Size, k: int, win: Window, out: Size, groups: int) -> Convolution:
    """The shape of a convolution of x (N, C, H, W) to ``k`` channels of ``out`` pixels."""
    n, c, height, width = x_shape
    padding = (win.pads[0][0], win.pads[1][0])
    kernel, out, stride, dilation = ((v[0], v[1]) for v in (win.kernel, out, win.stride, win.dilation))
    return Convolution(n, c, (height, width), k, kernel, out, stride, padding, dilation, groups)


def multiprocessors(x: Array) -> int:
    """How many multiprocessors work on ``x``."""
    xp = get_array_module(x)
    if xp is np:
        return _EMULATED_MULTIPROCESSORS
    return int(xp.cuda.Device().attributes["MultiProcessorCount"])


def forward(x: Array, w: Array, b: Array | None, shape: Convolution, relu: bool) -> Array:
    """y (N, K, OH, OW), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    xp = get_array_module(x)
    x, w = xp.ascontiguousarray(x), xp.ascontiguousarray(w)
    y = xp.empty((shape.n, shape.k, *shape.out), x.dtype)
    if y.size:
        bias = w if b is None else xp.ascontiguousarray(b)  # the kernel does not read it if has_bias is 0
        args = [x, w, bias, y, np.int32(b is not None), np.int32(relu)]
        _launch("conv2d", "forward", shape, args, (x.size, w.size, y.size))
    return y


def backward_x(gy: Array, w: Array, shape: Convolution) -> Array:
    """gx (N, C, H, W)."""
    xp = get_array_module(gy)
    gx = xp.empty((shape.n, shape.c, *shape.image), gy.dtype)
    if gx.size:
        args = [xp.ascontiguousarray(gy), xp.ascontiguousarray(w), gx]
        _launch("conv2d_backward_x", "backward_x", shape, args, (gy.size, w.size, gx.size))
    return gx


def backward_w(gy: Array, x: Array, shape: Convolution) -> Array:
    """gw (K, C/groups, KH, KW): partial sums in a workspace, added up by a second kernel if there are several."""
    xp = get_array_module(gy)
    gw = xp.empty((shape.k, shape.c // shape.groups, *shape.kernel), gy.dtype)
    if gw.size == 0:
        return gw
    product, sizes = shape.product("backward_w"), [gy.size, x.size, gw.size]
    plan = choose("backward_w", shape, multiprocessors(gy), gy.itemsize, cuda.index_type(*sizes) != "int")
    sizes.append(plan.splits * gw.size)
    index = np.int32 if cuda.index_type(*sizes) == "int" else np.int64
    partial = gw if plan.splits == 1 else xp.empty((plan.splits, gw.size), gw.dtype)
    args = [xp.ascontiguousarray(gy), xp.ascontiguousarray(x), partial, index(plan.chunk(product))]
    _launch("conv2d_backward_w", "backward_w", shape, args, sizes, plan)
    if plan.splits > 1:
        grid = (-(-gw.size // _SUM_THREADS),)
        args = [partial, gw, index(gw.size), np.int32(plan.splits)]
        cuda.launch("conv.cu", "conv2d_sum_splits", _macros(gw, sizes, plan), grid, (_SUM_THREADS,), args)
    return gw


def _macros(x: Array, sizes: Sequence[int], plan: Configuration) -> dict[str, str | int]:
    return {"DTYPE": cuda.c_type(x), "INDEX": cuda.index_type(*sizes), **plan.macros()}


def _launch(
    op: str, job: Job, shape: Convolution, args: list[Any], sizes: Sequence[int], plan: Configuration | None = None
) -> None:
    first = args[0]
    if plan is None:
        plan = choose(job, shape, multiprocessors(first), first.itemsize, cuda.index_type(*sizes) != "int")
    grid = plan.blocks(shape.product(job))
    for name, blocks in zip(("channel tiles", "groups times parts"), grid[1:], strict=True):
        check(blocks <= MAX_BLOCKS_YZ, ShapeError, op, f"CUDA takes at most {MAX_BLOCKS_YZ} {name}", got=blocks)
    integers = map(np.int32, shape.integers())
    cuda.launch("conv.cu", f"conv2d_{job}", _macros(first, sizes, plan), grid, (plan.threads,), [*args, *integers])
