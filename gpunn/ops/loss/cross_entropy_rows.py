"""Cross entropy on any array module: the softmax of all rows, or its logarithm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.activation.softmax import log_softmax, softmax
from gpunn.ops.shared.chunks import each_block
from gpunn.ops.shared.rows import row_sums


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def forward(rows: Array, classes: Array, counts: Array) -> Array:
    """``-log softmax(rows[n])[classes[n]]`` of each row that counts, 0 of the others."""
    xp, acc = get_array_module(rows), accumulation_dtype(rows.dtype)
    losses, numbers = xp.empty(len(rows), acc), xp.arange(len(rows))

    def block(part: slice) -> None:
        shifted = _shifted(rows[part].astype(acc, copy=False))
        own = shifted[numbers[: len(shifted)], classes[part]]
        losses[part] = xp.log(row_sums(xp, xp.exp(shifted, out=shifted))) - own

    _each_block(xp, block, rows)
    return xp.where(counts, losses, 0)


def backward(slope: Array, rows: Array, classes: Array, counts: Array) -> Array:
    """The gradient of the rows, where ``slope`` is that of each loss; of one row, where it is that of all."""
    xp, acc = get_array_module(rows), accumulation_dtype(rows.dtype)
    gx, numbers = xp.empty(rows.shape, acc), xp.arange(len(rows))
    slopes = xp.where(counts, slope, 0)

    def block(part: slice) -> None:
        out, own = gx[part], (numbers[: len(gx[part])], classes[part])
        shifted = _shifted(rows[part].astype(acc, copy=False), out)
        sums = row_sums(xp, xp.exp(shifted, out=out))
        of_own = (out[own] / sums - 1) * slopes[part]  # a product less a slope would lose its digits
        out *= (slopes[part] / sums)[:, None]
        out[own] = of_own

    _each_block(xp, block, rows)
    return gx if xp is np and counts.all() else xp.where(counts[:, None], gx, 0)  # an ignored row may hold NaN


def _shifted(rows: Array, out: Array | None = None) -> Array:
    """The rows less the largest element of each."""
    return get_array_module(rows).subtract(rows, rows.max(1, keepdims=True), out=out)


def _each_block(xp: Any, block: Callable[[slice], None], rows: Array) -> None:
    with np.errstate(invalid="ignore"):
        each_block(xp, block, len(rows), rows.shape[1] * accumulation_dtype(rows.dtype).itemsize)


def logarithms(rows: Array) -> Array:
    """The logarithm of the softmax of each row, wide."""
    with np.errstate(invalid="ignore"):  # a row that is ignored may hold anything
        return log_softmax(rows.astype(accumulation_dtype(rows.dtype), copy=False))


def probabilities(rows: Array) -> Array:
    """The softmax of each row, wide."""
    with np.errstate(invalid="ignore"):
        return softmax(rows.astype(accumulation_dtype(rows.dtype), copy=False))
