"""Convolution of images by ``kernels/conv.cu``: products of matrices, a tile at a time, whose columns are never stored.

Which tiles: :mod:`gpunn.ops.conv.tiles`, or :func:`gpunn.cuda.autotune`. Source: Chetlur et al. 2014, "cuDNN: efficient
primitives for deep learning".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.cuda import tuning
from gpunn.errors import ShapeError, check
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.conv.tiles import MAX_BLOCKS_YZ, SUM_THREADS, Configuration, Job, choose, product, shortlist

# What the emulator is planned for: few enough that small problems are not cut into many parts.
_EMULATED_MULTIPROCESSORS = 4


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for images where kernels run."""
    return plan.rank == 2 and cuda.takes(x)


def multiprocessors(x: Array) -> int:
    """How many multiprocessors work on ``x``."""
    xp = get_array_module(x)
    if xp is np:
        return _EMULATED_MULTIPROCESSORS
    return int(xp.cuda.Device().attributes["MultiProcessorCount"])


def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, OH, OW), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    xp = get_array_module(x)
    w, y = xp.ascontiguousarray(w), xp.empty(plan.y_shape, x.dtype)
    bias = w if b is None else b  # the kernel does not read it if has_bias is 0
    sizes = [x.size, w.size, y.size]

    def run(tiles: Configuration, *arrays: Array) -> None:
        args = [*arrays, np.int32(b is not None), np.int32(relu)]
        _launch(plan, "forward", args, sizes, tiles)

    return _filled(plan, "forward", sizes, run, x, w, bias, y)


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, H, W)."""
    gx = get_array_module(gy).empty(plan.x_shape, gy.dtype)
    sizes = [gy.size, w.size, gx.size]

    def run(tiles: Configuration, *arrays: Array) -> None:
        _launch(plan, "backward_x", list(arrays), sizes, tiles)

    return _filled(plan, "backward_x", sizes, run, gy, w, gx)


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """gw (K, C/groups, KH, KW): partial sums in a workspace, added up by a second kernel if there are several."""
    gw = get_array_module(gy).empty(plan.w_shape, gy.dtype)
    sizes = [gy.size, x.size, gw.size]

    def run(tiles: Configuration, gy: Array, x: Array, gw: Array) -> None:
        _split_sums(plan, tiles, gy, x, gw, [*sizes, tiles.splits * gw.size])

    return _filled(plan, "backward_w", sizes, run, gy, x, gw)


def _filled(plan: Plan, job: Job, sizes: Sequence[int], run: Callable[..., None], *arrays: Array) -> Array:
    """The last of ``arrays``, filled by ``run`` from the others, with the tiles that do it best."""
    *inputs, result = arrays
    if result.size:
        given = (*map(get_array_module(result).ascontiguousarray, inputs), result)
        run(_tiles(plan, job, sizes, run, given), *given)
    return result


def _split_sums(plan: Plan, tiles: Configuration, gy: Array, x: Array, gw: Array, sizes: Sequence[int]) -> None:
    index = np.int32 if cuda.index_type(*sizes) == "int" else np.int64
    partial = gw if tiles.splits == 1 else get_array_module(gw).empty((tiles.splits, gw.size), gw.dtype)
    args = [gy, x, partial, index(tiles.chunk(product(plan, "backward_w")))]
    _launch(plan, "backward_w", args, sizes, tiles)
    if tiles.splits > 1:
        grid = (-(-gw.size // SUM_THREADS),)
        args = [partial, gw, index(gw.size), np.int32(tiles.splits)]
        cuda.launch("conv.cu", "conv2d_sum_splits", _macros(gw, sizes, tiles), grid, (SUM_THREADS,), args)


def _tiles(
    plan: Plan, job: Job, sizes: Sequence[int], run: Callable[..., None], arrays: tuple[Array, ...]
) -> Configuration:
    first, wide = arrays[0], cuda.index_type(*sizes) != "int"
    many = multiprocessors(first)
    usual = choose(job, plan, many, first.itemsize, wide)
    if not tuning.in_use():
        return usual
    candidates = shortlist(job, plan, many, first.itemsize, wide)
    return tuning.fastest(f"conv2d_{job}", "conv.cu", plan.integers, candidates, usual, run, arrays)


def _macros(x: Array, sizes: Sequence[int], tiles: Configuration) -> dict[str, str | int]:
    return {"DTYPE": cuda.c_type(x), "INDEX": cuda.index_type(*sizes), **tiles.macros()}


def _launch(plan: Plan, job: Job, args: list[Any], sizes: Sequence[int], tiles: Configuration) -> None:
    op = plan.op if job == "forward" else f"{plan.op}_{job}"
    grid = tiles.blocks(product(plan, job))
    for name, blocks in zip(("channel tiles", "groups times parts"), grid[1:], strict=True):
        check(blocks <= MAX_BLOCKS_YZ, ShapeError, op, f"CUDA takes at most {MAX_BLOCKS_YZ} {name}", blocks=blocks)
    integers = map(np.int32, plan.integers)
    cuda.launch("conv.cu", f"conv2d_{job}", _macros(args[0], sizes, tiles), grid, (tiles.threads,), [*args, *integers])
