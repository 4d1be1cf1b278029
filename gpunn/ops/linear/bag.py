"""Sums, means and maxima of bags of rows, forward and backward: what an embedding of words makes of whole texts.

    sum: y[b] = sum_{n in b} w[n] x[n]        mean: y[b] = sum_{n in b} x[n] / |b|        max: y[b] = max_{n in b} x[n]

x (n, D) are rows, a bag b is a run of them, w (n,) their weights, 1 unless given. An empty bag gives 0. Of equal maxima
the first has the gradient. Sums are formed in a fixed order, as in :mod:`gpunn.ops.linear.embedding`; float16 is summed
in float32. Source: Joulin et al. 2017, "Bag of tricks for efficient text classification".
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, check_array, device_of, get_array_module, operands
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.linear.embedding import embedding_backward
from gpunn.ops.shared.checks import check_shape

Mode = Literal["sum", "mean", "max"]


class Bags(NamedTuple):
    """The bag of each row that counts, in their order, the places of those rows, and how many bags there are."""

    of: Array
    places: Array
    number: int


def bags(
    indices: Array, offsets: Array | None = None, include_last_offset: bool = False, padding_idx: int | None = None
) -> Bags:
    """The bags of ``indices``: the rows of (B, L), or the runs of (n,) that begin at ``offsets`` (B,).

    With ``include_last_offset`` the last of the offsets is n, and begins none. Indices equal to ``padding_idx`` do not
    count.

    >>> each = bags(np.array([5, 6, 7, 8]), np.array([0, 3]), padding_idx=6)
    >>> each.of.tolist(), each.places.tolist(), each.number
    ([0, 0, 1], [0, 2, 3], 2)
    """
    op = "embedding_bag"
    check_array(op, indices=indices)
    if indices.dtype.kind not in "iu":
        fail(DtypeError, op, "indices must be integers", dtype=str(indices.dtype))
    check(indices.ndim in (1, 2), ShapeError, op, "indices must have 1 or 2 dimensions", shape=indices.shape)
    xp = get_array_module(indices)
    places = xp.arange(indices.size)
    if indices.ndim == 2:
        check(offsets is None, ArgumentError, op, "indices of 2 dimensions are their own bags, without offsets")
        count, of = len(indices), places // max(1, indices.shape[1])
    else:
        starts = _starts(op, indices, offsets, include_last_offset)
        count, of = len(starts), xp.searchsorted(starts, places, "right") - 1
    if padding_idx is not None:
        cuda.refuse_capture(op, "how many indices are padding_idx is read on the CPU")
        places = xp.flatnonzero(indices.reshape(-1) != padding_idx)
        of = of[places]
    return Bags(of, places, count)


def _starts(op: str, indices: Array, offsets: Array | None, include_last_offset: bool) -> Array:
    """Where the bags begin."""
    check_array(op, offsets=offsets)
    assert offsets is not None
    if offsets.dtype.kind not in "iu":
        fail(DtypeError, op, "offsets must be integers", dtype=str(offsets.dtype))
    here, there = device_of(indices), device_of(offsets)
    check(here == there, DeviceError, op, "indices and offsets must be on one device", indices=here, offsets=there)
    least = int(include_last_offset)
    rule = f"offsets must have one dimension, and at least {least} elements"
    check(offsets.ndim == 1 and offsets.size >= least, ShapeError, op, rule, shape=offsets.shape)
    if not offsets.size:
        check(not indices.size, ShapeError, op, "without offsets there can be no indices", indices=indices.shape)
        return offsets
    wrong = (offsets[:1] != 0).any() | (offsets[1:] < offsets[:-1]).any() | (offsets[-1:] > indices.size).any()
    if include_last_offset:
        wrong = wrong | (offsets[-1:] != indices.size).any()
    end = "end with" if include_last_offset else "be at most"
    rule = f"offsets must begin with 0, not fall, and {end} the number of indices"
    cuda.alarm(wrong, lambda: check(False, ArgumentError, op, rule, offsets=offsets.tolist(), indices=indices.size))
    return offsets[:-1] if include_last_offset else offsets


def embedding_bag(rows: Array, weights: Array | None, each: Bags, mode: Mode = "mean") -> Array:
    """What becomes of the rows (n, D) in their bags: (B, D). Only sums take ``weights`` (n,).

    >>> each = bags(np.array([[0, 1], [2, 3]]))
    >>> embedding_bag(np.arange(4.0)[:, None], None, each, "mean").tolist()
    [[0.5], [2.5]]
    """
    op = "embedding_bag"
    xp = _checked(op, rows, weights, mode)
    if mode == "max":
        largest, _ = _largest(xp, rows, each)
        return largest
    wide = rows.take(each.places, 0).astype(accumulation_dtype(rows.dtype), copy=False)
    if weights is not None:
        wide = wide * weights.reshape(-1)[each.places, None].astype(wide.dtype, copy=False)
    sums = embedding_backward(wide, each.of, each.number)
    if mode == "mean":
        sums = sums / _sizes(xp, each).astype(sums.dtype)[:, None]
    return sums.astype(rows.dtype, copy=False)


def embedding_bag_backward(
    gy: Array, rows: Array, weights: Array | None, each: Bags, mode: Mode = "mean"
) -> tuple[Array, Array | None]:
    """The gradients with respect to the rows and to their weights."""
    op = "embedding_bag_backward"
    xp = _checked(op, rows, weights, mode)
    operands(op, gy=gy, rows=rows)
    check_shape(op, "gy", gy, (each.number, rows.shape[1]))
    gx, dtype = xp.zeros(rows.shape, rows.dtype), accumulation_dtype(rows.dtype)
    if mode == "max":
        _, source = _largest(xp, rows, each)
        own = source >= 0
        columns = xp.broadcast_to(xp.arange(rows.shape[1]), own.shape)
        gx[source[own], columns[own]] = gy[own]
        return gx, None
    g = gy.astype(dtype, copy=False)
    if mode == "mean":
        g = g / _sizes(xp, each).astype(dtype)[:, None]
    g = g.take(each.of, 0)
    if weights is None:
        gx[each.places] = g
        return gx, None
    flat = weights.reshape(-1)
    gx[each.places] = g * flat[each.places, None].astype(dtype, copy=False)
    gw = xp.zeros(flat.shape, weights.dtype)
    gw[each.places] = (g * rows.take(each.places, 0)).sum(1)
    return gx, gw.reshape(weights.shape)


def _largest(xp: Any, rows: Array, each: Bags) -> tuple[Array, Array]:
    """The maxima (B, D), and the row that each comes from, -1 where the bag is empty."""
    cuda.refuse_capture("embedding_bag", "the size of the largest bag is read on the CPU")
    sizes = xp.bincount(each.of, minlength=each.number)
    longest = int(sizes.max()) if each.number else 0
    if not longest:
        return xp.zeros((each.number, rows.shape[1]), rows.dtype), xp.full((each.number, rows.shape[1]), -1)
    first = xp.cumsum(sizes) - sizes
    inside = xp.arange(longest) < sizes[:, None]
    places = each.places[xp.where(inside, first[:, None] + xp.arange(longest), 0)]
    padded = xp.where(inside[:, :, None], rows.take(places, 0), -np.inf).astype(rows.dtype, copy=False)
    winner = padded.argmax(1)
    empty = (sizes == 0)[:, None]
    largest = xp.take_along_axis(padded, winner[:, None], 1)[:, 0]
    return xp.where(empty, 0, largest).astype(rows.dtype), xp.where(empty, -1, xp.take_along_axis(places, winner, 1))


def _sizes(xp: Any, each: Bags) -> Array:
    return xp.maximum(xp.bincount(each.of, minlength=each.number), 1)


def _checked(op: str, rows: Array, weights: Array | None, mode: str) -> Any:
    check(mode in ("sum", "mean", "max"), ArgumentError, op, 'mode is "sum", "mean" or "max"', mode=mode)
    rule = 'only mode="sum" takes per_sample_weights'
    check(weights is None or mode == "sum", ArgumentError, op, rule, mode=mode)
    return operands(op, {"per_sample_weights": weights}, rows=rows)
