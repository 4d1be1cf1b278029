"""Dropout by ``kernels/dropout.cu``, which draws the numbers where they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module, is_array
from gpunn.ops.dropout.drawn import Key
from gpunn.ops.shared.vector import vector

_THREADS = 128


def takes(x: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(x)


def key(x: Array, draw: Callable[[], int]) -> Key:
    """The key that ``draw()`` gives, as an array beside x."""

    def drawn() -> np.ndarray[Any, Any]:
        return np.array([draw()], np.uint64)

    return cuda.live(x, drawn(), drawn)


def mask(x: Array, p: float, key: Key, offset: int) -> None:
    """None: the kernel finds it faster than it would read it."""


def apply(x: Array, p: float, key: Key, offset: int, planes: int, keep: Array | None) -> Array:
    """x with ``planes`` equal parts of it, in row-major order, kept or dropped as a whole."""
    xp, scale = get_array_module(x), 1 / (1 - p) if p < 1 else 0.0
    x, y = xp.ascontiguousarray(x), xp.empty(x.shape, x.dtype)
    if planes == x.size:
        kernel, length, blocks = "dropout", x.size, -(-x.size // (4 * _THREADS))
    else:
        kernel, length, blocks = "dropout2d", x.size // planes, planes
    index = cuda.index_type(x.size)
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": index, "THREADS": _THREADS}
    macros["VECTOR"] = vector(length, x, y)
    # u >= p exactly if the 53 bits, as an integer, are at least 2^53 p; and 2^53 p is exact.
    threshold = math.ceil(p * 2**53)
    key = key if is_array(key) else cuda.live(x, np.array([key], np.uint64))
    size = np.int32(length) if index == "int" else np.int64(length)
    scalars = [np.uint64(offset + 1), np.uint64(threshold), x.dtype.type(scale)]
    cuda.launch("dropout.cu", kernel, macros, (blocks,), (_THREADS,), [x, y, size, key, *scalars])
    return y
