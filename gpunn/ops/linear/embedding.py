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
from gpunn.backend import Array, accumulation_dtype, check_array, device_of, get_array_module, operands
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, check_number, fail
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


def embedding_renorm(indices: Array, weight: Array, max_norm: float, norm_type: float = 2.0) -> bool:
    """Scale the rows that ``indices`` name, where their norm is larger, to ``max_norm``, in place.

    The norm of a row w is ``(sum_d |w[d]|^p)^(1/p)`` with p = ``norm_type``; for an infinite p the largest ``|w[d]|``.
    Returns False if no row was changed, as the CPU knows.

    >>> weight = np.array([[3.0, 4.0], [6.0, 8.0]])
    >>> embedding_renorm(np.array([1, 1]), weight, 5.0), weight.round(4).tolist()
    (True, [[3.0, 4.0], [3.0, 4.0]])
    """
    op = "embedding"
    check_number(op, max_norm=max_norm, norm_type=norm_type)
    check(max_norm >= 0, ArgumentError, op, "max_norm must be at least 0", max_norm=max_norm)
    check(norm_type > 0, ArgumentError, op, "norm_type must be larger than 0", norm_type=norm_type)
    flat = indices.reshape(-1)
    rows = embedding(flat, weight)
    xp, wide = get_array_module(weight), abs(rows.astype(accumulation_dtype(rows.dtype), copy=False))
    norms = wide.max(1) if norm_type == np.inf else (wide**norm_type).sum(1) ** (1 / norm_type)
    scale = xp.where(norms > max_norm, max_norm / (norms + _TINY), 1).astype(rows.dtype, copy=False)
    if xp is np and not (norms > max_norm).any():
        return False
    weight[flat] = rows * scale[:, None]  # the rows that one index names several times are equal
    return True


_TINY = 1e-7  # added to a norm before it divides: PyTorch's


def embedding_backward(
    gy: Array, indices: Array, rows: int, padding_idx: int | None = None, scale_grad_by_freq: bool = False
) -> Array:
    """The gradient with respect to weight, (rows, D); its row ``padding_idx`` stays 0.

    ``scale_grad_by_freq`` divides the gradient of each row by how often ``indices`` names it.
    """
    op = "embedding_backward"
    xp = operands(op, gy=gy)
    check_shape(op, "gy", gy, (*indices.shape, *gy.shape[-1:]))
    flat = flat_of_all = indices.reshape(-1)
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
    if scale_grad_by_freq:
        out /= xp.maximum(xp.bincount(flat_of_all.astype(np.int64), minlength=rows), 1).astype(out.dtype)[:, None]
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
