"""Launches of ``kernels/conv_mma.cu``; :mod:`gpunn.ops.conv.tensor_cores` has the three passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpunn import backend, cuda
from gpunn.backend import Array, dtype_name, get_array_module
from gpunn.cuda import tuning
from gpunn.errors import DeviceError, ShapeError, check
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.conv.tensor_core_tiles import (
    CHUNK_BYTES,
    CONSTANTS,
    PACK_TILE,
    THREADS,
    Layout,
    Tiling,
    Work,
    choose,
    tiles,
    tilings,
)
from gpunn.ops.conv.tiles import MAX_BLOCKS_YZ


class Axis(NamedTuple):
    """One axis of a product.

    Output number i of ``outputs`` is position ``first`` + i * ``every`` of the result. It meets number r of ``taps``, a
    part of the filter's, in position i * ``scale`` + ``offset`` + r * ``step`` of 0 .. ``size`` - 1, or in padding.
    """

    taps: slice
    outputs: int
    scale: int
    offset: int
    step: int
    size: int
    first: int
    every: int

    def gather(self) -> tuple[int, int, int, int]:
        return self.scale, self.offset, self.step, self.size


Axes = tuple[Axis, Axis]


# By the name of the precision: the type in conv_mma.cu, and the dtype of its bits.
_TYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "tf32": ("tf32", np.dtype(np.uint32)),
    "bf16": ("bf16", np.dtype(np.uint16)),
    "fp16": ("f16", np.dtype(np.uint16)),
}


HALVES = {"float16": "fp16", "bfloat16": "bf16"}
"""The dtypes whose arrays are multiplied as they are, and the precision that this is."""


@dataclass(frozen=True)
class Setting:
    op: str
    dtype: str
    precision: str
    bits: np.dtype[Any]

    @property
    def chunk(self) -> int:
        """The elements of 16 bytes."""
        return CHUNK_BYTES // self.bits.itemsize


def find_setting(op: str, x: Array) -> Setting:
    name = HALVES.get(dtype_name(x.dtype)) or backend.chosen_matmul_precision()
    xp = get_array_module(x)
    if xp is not np:
        capability = int(xp.cuda.Device().compute_capability)
        rule = f"{name} needs a GPU of compute capability 8.0"
        check(name == "fp16" or capability >= 80, DeviceError, op, rule, capability=capability)
    return Setting(op, cuda.c_type(x), *_TYPES[name])


def find_tiling(
    setting: Setting, work: Work, plan: Plan, run: Callable[..., None], arrays: tuple[Array, ...]
) -> Tiling:
    op = f"{setting.op}-{setting.precision}"
    return tuning.fastest(op, "conv_mma.cu", plan.integers, tilings(work), choose(work), run, arrays)


def launch(
    setting: Setting, tiling: Tiling, layout: Layout, kernel: str, grid: tuple[int, int, int], args: list[Any]
) -> None:
    rule = f"CUDA takes at most {MAX_BLOCKS_YZ} groups, or tiles of channels"
    check(max(grid[1:]) <= MAX_BLOCKS_YZ, ShapeError, setting.op, rule, blocks=grid)
    arrays = [a for a in args if backend.is_array(a)]
    macros: dict[str, str | int] = {
        "DTYPE": setting.dtype, "PRECISION": setting.precision, "TILE_M": tiling.rows, "TAPS": layout.taps,
        "INDEX": cuda.index_type(*(a.size for a in arrays)), **CONSTANTS,
    }  # fmt: skip
    cuda.launch("conv_mma.cu", kernel, macros, grid, (THREADS,), args)


def pack(setting: Setting, tiling: Tiling, x: Array, groups: int, shared: bool = True) -> Array:
    """x (N, C, ...) rounded and with the channels last: (N, pixels, groups, C/groups and zeros behind).

    Zeros fill each pixel's channels up: to the ``padded`` elements of its :class:`Layout`, in which several taps may
    share a chunk, or to whole chunks where not ``shared``.
    """
    xp = get_array_module(x)
    images, channels, pixels = x.shape[0], x.shape[1] // groups, math.prod(x.shape[2:])
    check(pixels < 2**31, ShapeError, setting.op, "an image must have fewer than 2**31 pixels", pixels=pixels)
    layout = Layout(channels, setting.chunk)
    padded = layout.padded if shared else -(-channels // setting.chunk) * setting.chunk
    packed = xp.empty((images, pixels, groups, padded), setting.bits)
    if packed.size:
        grid = (images * -(-pixels // PACK_TILE), -(-padded // PACK_TILE), groups)
        args = [xp.ascontiguousarray(x), packed, *map(np.int32, (pixels, channels, padded))]
        launch(setting, tiling, layout, "conv_mma_pack", grid, args)
    return packed


def multiply(
    setting: Setting,
    tiling: Tiling,
    w: Array,
    b: Array | None,
    packed: Array,
    out: Array,
    groups: int,
    axes: Axes,
    relu: bool,
) -> None:
    """out[n, k] = b[k] + sum over the taps of w[k] and what they meet in ``packed``, placed by ``axes``."""
    xp, (down, across) = get_array_module(packed, out), axes
    part, layout = w[:, :, down.taps, across.taps], Layout(w.shape[1], setting.chunk)
    kernel = part.shape[2:]
    # Filters end with a whole chunk: taps of zeros where several share one.
    filters = part.reshape(*part.shape[:2], -1)
    filters = xp.pad(filters, ((0, 0), (0, 0), (0, -filters.shape[2] % layout.taps)))
    bias = out if b is None else xp.ascontiguousarray(b)  # the kernel does not read it if has_bias is 0
    rows = out.shape[1] // groups
    sizes = (b is not None, relu, rows, layout.parts, *kernel, out.shape[0], down.outputs, across.outputs)
    places = (*down.gather(), *across.gather(), *out.shape[2:], down.first, down.every, across.first, across.every)
    args = [pack(setting, tiling, filters, 1), packed, bias, out, *map(np.int32, (*sizes, *places))]
    grid = (*tiles(rows, out.shape[0] * down.outputs * across.outputs, tiling.rows), groups)
    launch(setting, tiling, layout, "conv_mma_product", grid, args)
