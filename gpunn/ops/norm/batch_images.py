"""Batch normalisation on any array module where planes are short: whole images are its rows.

What each channel has is repeated for its pixels, so that NumPy's loops are long, and sums over the images come first.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.norm.affine import Affine
from gpunn.ops.norm.batch_sums import gradient, pass_on, scaled
from gpunn.ops.shared.chunks import each_block, sum_over_blocks
from gpunn.ops.shared.rows import column_sums

_SHORT = 320  # pixels; longer rows are faster one by one


def takes(x: Array) -> bool:
    """True for planes of few pixels."""
    return bool(x.size > 0 and prod(x.shape[2:]) < _SHORT)


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    xp, acc, rows, count = get_array_module(x), accumulation_dtype(x.dtype), _rows(x), x.size // x.shape[1]
    ones = xp.ones(len(rows), acc)

    def sums(part: slice) -> list[Array]:
        return [column_sums(xp, rows[part].astype(acc, copy=False), ones[part])]

    def squares(part: slice) -> list[Array]:
        distance = rows[part] - means
        distance *= distance
        return [column_sums(xp, distance, ones[part])]

    (mean,) = _totals(xp, sums, x, acc)
    mean /= count
    means = _repeated(xp, mean, x)
    (var,) = _totals(xp, squares, x, acc)
    var /= count
    return mean, var


def apply(x: Array, affine: Affine, relu: bool) -> Array:
    """``scale (x - mean) + shift``, cut off at 0 if ``relu``."""
    xp, rows, y = get_array_module(x), _rows(x), get_array_module(x).empty(x.shape, x.dtype)
    result, (means, scales, shifts) = _rows(y), (_repeated(xp, a, x) for a in affine[:3])

    def block(part: slice) -> None:
        scaled(rows[part], means, scales, shifts, relu, result[part])

    each_block(xp, block, len(rows), rows.shape[1] * means.dtype.itemsize)
    return y


def backward(gy: Array, x: Array, affine: Affine, relu: bool, training: bool) -> tuple[Array, Array, Array]:
    """gx and the sums, as :func:`gpunn.ops.norm.batch_sums.backward` has them."""
    xp = get_array_module(x)
    g, sum_g, sum_gx = _sums(gy, x, affine, relu)
    gx = g if relu else xp.empty(x.shape, x.dtype)
    passed = affine.through(sum_g, sum_gx, x.size // x.shape[1], training)
    means, scales, means_g, slopes = (_repeated(xp, a, x) for a in (affine.mean, affine.scale, *passed))
    rows, g_rows, result = _rows(x), _rows(g), _rows(gx)

    def block(part: slice) -> None:
        gradient(g_rows[part], rows[part] - means, means_g, slopes, scales, result[part])

    each_block(xp, block, len(rows), rows.shape[1] * means.dtype.itemsize)
    return gx, sum_g, sum_gx


def _sums(gy: Array, x: Array, affine: Affine, relu: bool) -> tuple[Array, Array, Array]:
    """gy where ``relu`` passes it on, and the sums over each channel of that and of its products with ``x - mean``."""
    xp, acc, rows, g_rows = get_array_module(x), affine.mean.dtype, _rows(x), _rows(gy)
    means, scales, shifts = (_repeated(xp, a, x) for a in affine[:3])
    ones, g = xp.ones(len(rows), acc), xp.empty(x.shape, x.dtype) if relu else gy
    passed = _rows(g)

    def block(part: slice) -> list[Array]:
        distance = rows[part] - means
        if relu:
            pass_on(g_rows[part], distance, scales, shifts, passed[part])
        distance *= passed[part]
        return [column_sums(xp, a, ones[part]) for a in (passed[part].astype(acc, copy=False), distance)]

    sum_g, sum_gx = _totals(xp, block, x, acc)
    return g, sum_g, sum_gx


def _rows(x: Array) -> Array:
    """x (N, C, ...) as (N, C pixels)."""
    return x.reshape(len(x), -1)


def _repeated(xp: Any, a: Array, x: Array) -> Array:
    """a (C,) for each pixel of an image: (C pixels,)."""
    pixels = prod(x.shape[2:])
    return a if pixels == 1 else xp.repeat(a, pixels)


def _totals(xp: Any, work: Callable[[slice], list[Array]], x: Array, acc: Any) -> list[Array]:
    """The sums of each channel, (C,), of what ``work`` sums over the images of a block, (C pixels,)."""
    sums = sum_over_blocks(xp, work, len(x), x.size // len(x) * acc.itemsize)
    return [a.reshape(x.shape[1], -1).sum(1) if len(a) > x.shape[1] else a for a in sums]
