"""Launches of the convolution's kernels, ``kernels/conv.cu``; :mod:`gpunn.ops.conv_nd` checks the arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.cuda import tuning
from gpunn.cuda.convolution_plan import MAX_BLOCKS_YZ, Configuration, Convolution, Job, choose, shortlist
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
    if y.size == 0:
        return y
    bias = w if b is None else xp.ascontiguousarray(b)  # the kernel does not read it if has_bias is 0
    sizes = [x.size, w.size, y.size]

    def run(plan: Configuration, *arrays: Array) -> None:
        args = [*arrays, np.int32(b is not None), np.int32(relu)]
        _launch("conv2d", "forward", shape, args, sizes, plan)

    arrays = (x, w, bias, y)
    run(_plan("forward", shape, sizes, run, arrays), *arrays)
    return y


def backward_x(gy: Array, w: Array, shape: Convolution) -> Array:
    """gx (N, C, H, W)."""
    xp = get_array_module(gy)
    gx = xp.empty((shape.n, shape.c, *shape.image), gy.dtype)
    if gx.size == 0:
        return gx
    sizes = [gy.size, w.size, gx.size]

    def run(plan: Configuration, *arrays: Array) -> None:
        _launch("conv2d_backward_x", "backward_x", shape, list(arrays), sizes, plan)

    arrays = (xp.ascontiguousarray(gy), xp.ascontiguousarray(w), gx)
    run(_plan("backward_x", shape, sizes, run, arrays), *arrays)
    return gx


def backward_w(gy: Array, x: Array, shape: Convolution) -> Array:
    """gw (K, C/groups, KH, KW): partial sums in a workspace, added up by a second kernel if there are several."""
    xp = get_array_module(gy)
    gw = xp.empty((shape.k, shape.c // shape.groups, *shape.kernel), gy.dtype)
    if gw.size == 0:
        return gw
    sizes = [gy.size, x.size, gw.size]

    def run(plan: Configuration, gy: Array, x: Array, gw: Array) -> None:
        _split_sums(plan, gy, x, gw, shape, [*sizes, plan.splits * gw.size])

    arrays = (xp.ascontiguousarray(gy), xp.ascontiguousarray(x), gw)
    run(_plan("backward_w", shape, sizes, run, arrays), *arrays)
    return gw


def _split_sums(plan: Configuration, gy: Array, x: Array, gw: Array, shape: Convolution, sizes: Sequence[int]) -> None:
    index = np.int32 if cuda.index_type(*sizes) == "int" else np.int64
    partial = gw if plan.splits == 1 else get_array_module(gw).empty((plan.splits, gw.size), gw.dtype)
    args = [gy, x, partial, index(plan.chunk(shape.product("backward_w")))]
    _launch("conv2d_backward_w", "backward_w", shape, args, sizes, plan)
    if plan.splits > 1:
        grid = (-(-gw.size // _SUM_THREADS),)
        args = [partial, gw, index(gw.size), np.int32(plan.splits)]
        cuda.launch("conv.cu", "conv2d_sum_splits", _macros(gw, sizes, plan), grid, (_SUM_THREADS,), args)


def _plan(
    job: Job, shape: Convolution, sizes: Sequence[int], run: Callable[..., None], arrays: tuple[Array, ...]
) -> Configuration:
    first, wide = arrays[0], cuda.index_type(*sizes) != "int"
    many = multiprocessors(first)
    usual = choose(job, shape, many, first.itemsize, wide)
    if not tuning.in_use():
        return usual
    candidates = shortlist(job, shape, many, first.itemsize, wide)
    return tuning.fastest(f"conv2d_{job}", "conv.cu", shape.integers(), candidates, usual, run, arrays)


def _macros(x: Array, sizes: Sequence[int], plan: Configuration) -> dict[str, str | int]:
    return {"DTYPE": cuda.c_type(x), "INDEX": cuda.index_type(*sizes), **plan.macros()}


def _launch(op: str, job: Job, shape: Convolution, args: list[Any], sizes: Sequence[int], plan: Configuration) -> None:
    grid = plan.blocks(shape.product(job))
    for name, blocks in zip(("channel tiles", "groups times parts"), grid[1:], strict=True):
        check(blocks <= MAX_BLOCKS_YZ, ShapeError, op, f"CUDA takes at most {MAX_BLOCKS_YZ} {name}", blocks=blocks)
    integers = map(np.int32, shape.integers())
    cuda.launch("conv.cu", f"conv2d_{job}", _macros(args[0], sizes, plan), grid, (plan.threads,), [*args, *integers])
