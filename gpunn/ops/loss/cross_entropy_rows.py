"""Cross entropy on any array module: the softmax of all rows, or its logarithm."""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.activation.softmax import log_softmax, softmax


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def forward(rows: Array, classes: Array, counts: Array) -> Array:
    """``-log softmax(rows[n])[classes[n]]`` of each row that counts, 0 of the others."""
    xp = get_array_module(rows)
    return xp.where(counts, -logarithms(rows)[xp.arange(len(rows)), classes], 0)


def backward(slope: Array, rows: Array, classes: Array, counts: Array) -> Array:
    """The gradient of the rows, where ``slope`` is that of each loss; of one row, where it is that of all."""
    xp, gx = get_array_module(rows), probabilities(rows)
    gx[xp.arange(len(rows)), classes] -= 1
    with np.errstate(invalid="ignore"):
        return xp.where(counts[:, None], gx * slope[:, None], 0)


def logarithms(rows: Array) -> Array:
    """The logarithm of the softmax of each row, wide."""
    with np.errstate(invalid="ignore"):  # a row that is ignored may hold anything
        return log_softmax(rows.astype(accumulation_dtype(rows.dtype), copy=False))


def probabilities(rows: Array) -> Array:
    """The softmax of each row, wide."""
    with np.errstate(invalid="ignore"):
        return softmax(rows.astype(accumulation_dtype(rows.dtype), copy=False))
