"""Cross entropy on any array module: the softmax of all rows, or its logarithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.activation.softmax import log_softmax, softmax
from gpunn.ops.shared.chunks import each_block_of
from gpunn.ops.shared.rows import row_maxima, row_sums


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


Exponentials = tuple[Array, Array, Array]
"""``exp(x - the largest x)`` of all rows, their sums, and where the rows begin, in elements."""


def forward(rows: Array, classes: Array, counts: Array | None, keeps: bool) -> tuple[Array, Exponentials | None]:
    """``-log softmax(rows[n])[classes[n]]`` of each row that counts, 0 of the others; and the exponentials."""
    xp, acc, count = get_array_module(rows), accumulation_dtype(rows.dtype), len(rows)
    losses, sums, starts = xp.empty(count, acc), xp.empty(count, acc), xp.arange(0, rows.size, rows.shape[1])
    exponentials = xp.empty(rows.shape, acc) if keeps else None

    def block(rows: Array, classes: Array, losses: Array, sums: Array, out: Array | None = None) -> None:
        wide = rows.astype(acc, copy=False)
        shifted = xp.subtract(wide, row_maxima(xp, wide), out=out)
        own = shifted.reshape(-1)[starts[: len(shifted)] + classes]  # half the time of two indices
        sums[...] = row_sums(xp, xp.exp(shifted, out=shifted))
        xp.subtract(xp.log(sums), own, out=losses)

    _each_block(xp, block, rows, classes, losses, sums, *([] if exponentials is None else [exponentials]))
    if counts is not None:
        losses = xp.where(counts, losses, 0)
    return losses, None if exponentials is None else (exponentials, sums, starts)


def backward(slope: Array, rows: Array, classes: Array, counts: Array | None, kept: Exponentials | None) -> Array:
    """The gradient of the rows, where ``slope`` is that of each loss; of one row, where it is that of all."""
    xp, acc = get_array_module(rows), accumulation_dtype(rows.dtype)
    kept = kept or forward(rows, classes, counts, keeps=True)[1]
    assert kept is not None
    (exponentials, sums, starts), gx = kept, xp.empty(rows.shape, acc)
    slopes = slope if counts is None else xp.where(counts, slope, 0)

    def block(out: Array, exponentials: Array, sums: Array, classes: Array, slopes: Array = slopes) -> None:
        own = starts[: len(out)] + classes
        factors = slopes / sums
        xp.multiply(exponentials, factors[:, None], out=out)
        less = exponentials.reshape(-1)[own] - sums  # a product less a slope loses its digits
        out.reshape(-1)[own] = less * factors

    _each_block(xp, block, gx, exponentials, sums, classes, *([] if slopes.size == 1 else [slopes]))
    return gx if counts is None else xp.where(counts[:, None], gx, 0)  # an ignored row may hold NaN


def _each_block(xp: Any, block: Callable[..., None], *arrays: Array) -> None:
    with np.errstate(invalid="ignore"):
        each_block_of(xp, block, *arrays)


def logarithms(rows: Array) -> Array:
    """The logarithm of the softmax of each row, wide."""
    with np.errstate(invalid="ignore"):  # a row that is ignored may hold anything
        return log_softmax(rows.astype(accumulation_dtype(rows.dtype), copy=False))


def probabilities(rows: Array) -> Array:
    """The softmax of each row, wide."""
    with np.errstate(invalid="ignore"):
        return softmax(rows.astype(accumulation_dtype(rows.dtype), copy=False))
