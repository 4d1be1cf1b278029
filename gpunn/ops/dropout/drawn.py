"""Dropout on any array module: NumPy draws the mask, which is then moved to where x is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, is_array
from gpunn.ops.shared.chunks import each_block

Key: TypeAlias = Any
"""An integer of 64 bits, or the array of one that :func:`gpunn.ops.dropout.dropout_key` gives."""


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def key(x: Array, draw: Callable[[], int]) -> Key:
    """The key that ``draw()`` gives."""
    return draw()


def mask(x: Array, p: float, key: Key, offset: int) -> Array:
    """Which elements are kept, in row-major order."""
    return _mask(get_array_module(x), x.size, p, key, offset)


def apply(x: Array, p: float, key: Key, offset: int, planes: int, keep: Array | None) -> Array:
    """x with ``planes`` equal parts of it, in row-major order, kept or dropped as a whole."""
    xp, scale = get_array_module(x), 1 / (1 - p) if p < 1 else 0.0
    y = xp.empty(x.shape, x.dtype)
    keep = _mask(xp, planes, p, key, offset) if keep is None else keep
    source, result = x.reshape(planes, -1), y.reshape(planes, -1)
    acc = accumulation_dtype(x.dtype)
    bits = np.dtype(f"i{acc.itemsize}")

    def block(part: slice) -> None:
        # Not a product: 0 * inf is not 0. -True has all bits set, and is faster than a choice.
        kept = source[part].astype(acc, copy=False).view(bits) & -keep[part, None].astype(bits)
        result[part] = kept.view(acc) * acc.type(scale)

    each_block(xp, block, planes, x.size // planes * acc.itemsize)
    return y


def _mask(xp: Any, planes: int, p: float, key: Key, offset: int) -> Array:
    """Drawn on the CPU, as CuPy's generators have other streams; only dtypes without a kernel come here."""
    cuda.refuse_capture("dropout", "only float32 and float64 have a kernel; others draw their mask on the CPU")
    key = int(key.item()) if is_array(key) else key
    keep = np.empty(planes, bool)

    def block(blocks: slice) -> None:
        """The numbers of some blocks of Philox, of four each: a generator begins at any of them."""
        generator = np.random.Generator(np.random.Philox(key=key, counter=offset + blocks.start))
        part = keep[4 * blocks.start : 4 * blocks.stop]
        np.greater_equal(generator.random(len(part)), p, out=part)

    each_block(np, block, -(-planes // 4), 4 * 8)
    return xp.asarray(keep)
