"""Local response normalisation by ``kernels/lrn.cu``."""

from __future__ import annotations

from math import prod

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.ops.norm.lrn_geometry import LrnPlan
from gpunn.ops.shared.vector import vector


def takes(x: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(x)


def forward(plan: LrnPlan, x: Array) -> Array:
    """y (N, C, ...)."""
    xp = get_array_module(x)
    y = xp.empty(x.shape, x.dtype)
    _launch(plan, "lrn_forward", [xp.ascontiguousarray(x), y])
    return y


def backward(plan: LrnPlan, gy: Array, x: Array) -> Array:
    """gx (N, C, ...)."""
    xp = get_array_module(x)
    gx = xp.empty(x.shape, x.dtype)
    _launch(plan, "lrn_backward", [xp.ascontiguousarray(gy), xp.ascontiguousarray(x), gx])
    return gx


_THREADS = 128
_ENOUGH_THREADS = 1 << 17  # with 16 bytes a thread under way, what it takes to fill the memory of a large GPU
_WIDEST_VECTOR_SIZE = 7  # three windows of more than 7 vectors leave the registers
ROOTS = {0.75: 75, 0.5: 50}  # the macro BETA of exponents that need roots alone


def _launch(plan: LrnPlan, kernel: str, arrays: list[Array]) -> None:
    x, size = arrays[0], plan.size
    (n, c), pixels = x.shape[:2], prod(x.shape[2:])
    if x.size == 0:
        return
    index = cuda.index_type(x.size)
    together = vector(pixels, *arrays) if size <= _WIDEST_VECTOR_SIZE else 1
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(x),
        "INDEX": index,
        "SIZE": size,
        "BETA": ROOTS.get(plan.beta, 0),
        "VECTOR": together,
        "THREADS": _THREADS,
    }
    threads = n * pixels // together
    per_part = channels_per_part(threads, c, size)
    image = np.int32(pixels) if index == "int" else np.int64(pixels)
    scalars = [*map(np.int32, (n, c, per_part)), image, *map(x.dtype.type, (plan.a, plan.beta, plan.k))]
    grid = (-(-threads // _THREADS), -(-c // per_part))
    cuda.launch("lrn.cu", kernel, macros, grid, (_THREADS,), [*arrays, *scalars])


def channels_per_part(threads: int, channels: int, size: int) -> int:
    """The channels that a thread walks over: all, unless there are too few threads at one for each vector of pixels.

    At least 4 windows: what a part reads beyond its own channels stays a quarter of them.

    >>> channels_per_part(1 << 20, 96, 5), channels_per_part(1 << 16, 96, 5), channels_per_part(64, 96, 5)
    (96, 48, 24)
    """
    parts = min(-(-_ENOUGH_THREADS // threads), channels // (4 * size), 65535)  # 65535: the most that a grid takes
    return -(-channels // max(parts, 1))
