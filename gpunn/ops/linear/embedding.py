"""Rows of a table, chosen by integers, forward and backward.

    y[..., :] = weight[indices[...], :]        gweight[v] = sum of gy over the places where indices is v

indices is an integer array of any shape, weight is (V, D), y has the shape of indices and then D. The gradient adds
rows in a fixed order: sorted by index, the first with the second, the third with the fourth, and so on until one row
of each index is left. So two runs give the same bits on every backend, and the rounding of a sum of n rows grows with
log n; float16 is summed in float32. Source: Bengio et al. 2003, "A neural probabilistic language model".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, check_array, device_of, operands
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.shared.checks import are_below, check_shape


def embedding(indices: Array, weight: Array) -> Array:
    """The rows of weight that indices name.

    >>> embedding(np.array([2, 0]), np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]

    Raises ArgumentError for an index outside 0 to V-1.
    """
    op = "embedding"
    operands(op, weight=weight)
    check(weight.ndim == 2, ShapeError, op, "weight must have the 2 dimensions (V, D)", shape=weight.shape)
    check_array(op, indices=indices)
    if indices.dtype.kind not in "iu":
        fail(DtypeError, op, "indices must be integers", dtype=str(indices.dtype))
    places = {"indices": device_of(indices), "weight": device_of(weight)}
    check(len(set(places.values())) == 1, DeviceError, op, "indices and weight must be on one device", **places)
    if not are_below(indices, len(weight)):
        wrong = (indices < 0) | (indices >= len(weight))

        def report() -> None:
            first = int(indices.reshape(-1)[int(wrong.argmax())])
            check(False, ArgumentError, op, f"indices must lie in 0 to {len(weight) - 1}", index=first)

        cuda.alarm(wrong.any(), report)
    return weight.take(indices, 0)


def embedding_backward(gy: Array, indices: Array, rows: int, padding_idx: int | None = None) -> Array:
    """The gradient with respect to weight, (rows, D); its row ``padding_idx`` stays 0."""
    op = "embedding_backward"
    xp = operands(op, gy=gy)
    check_shape(op, "gy", gy, (*indices.shape, *gy.shape[-1:]))
    flat = indices.reshape(-1)
    # NumPy sorts short integers in a time that does not grow with their number's logarithm.
    order = xp.argsort(flat.astype(np.uint16) if rows <= 1 << 16 else flat, kind="stable")
    flat = flat[order]
    if padding_idx is not None:
        kept = flat != padding_idx
        flat, order = flat[kept], order[kept]
    g, out = gy.reshape(indices.size, gy.shape[-1]), xp.zeros((rows, gy.shape[-1]), accumulation_dtype(gy.dtype))
    begins = xp.ones(len(flat), bool)
    xp.not_equal(flat[1:], flat[:-1], out=begins[1:])
    starts = xp.flatnonzero(begins)
    out[flat[starts]] = g.take(order[starts], 0)
    if len(starts) < len(flat):
        repeated = ~begins
        repeated[:-1] |= repeated[1:]
        flat, order, begins = flat[repeated], order[repeated], begins[repeated]
        summed = g.take(order, 0).astype(out.dtype, copy=False)
        starts = _sum_runs(xp, begins, summed)
        out[flat[starts]] = summed.take(starts, 0)
    return out.astype(gy.dtype, copy=False)


def _sum_runs(xp: Any, begins: Array, g: Array) -> Array:
    """Add up the rows of each run of ``g`` in its first row, by halves; the places of the first rows.

    ``begins`` is true at the first row of each run.
    """
    starts = xp.flatnonzero(begins)
    place = xp.arange(len(begins)) - starts[xp.cumsum(begins) - 1]
    longest, apart = int(place.max()), 1
    while apart <= longest:
        seconds = xp.flatnonzero(place & (2 * apart - 1) == apart)
        firsts = seconds - apart
        g[firsts] = g.take(firsts, 0) + g.take(seconds, 0)
        apart *= 2
    return starts
