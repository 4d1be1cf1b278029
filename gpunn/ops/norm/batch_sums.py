"""Batch normalisation on any array module: sums over the axes, the variance from the differences to the mean."""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.norm.affine import Affine
from gpunn.ops.shared.chunks import cut_off, each_block
from gpunn.ops.shared.rows import row_dots, row_sums, unbuffered


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


@unbuffered
def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    xp, acc, rows = get_array_module(x), accumulation_dtype(x.dtype), _rows(x)
    of_rows, count = xp.empty(len(rows), acc), x.size // x.shape[1]

    def sums(part: slice) -> None:
        of_rows[part] = row_sums(xp, rows[part].astype(acc, copy=False))

    def squares(part: slice) -> None:
        distance = rows[part] - means[part]
        of_rows[part] = row_dots(xp, distance, distance)

    each_block(xp, sums, len(rows), rows.shape[1] * acc.itemsize)
    mean = _over_images(of_rows, x) / count
    means = _to_rows(xp, mean, x)
    each_block(xp, squares, len(rows), rows.shape[1] * acc.itemsize)
    return mean, _over_images(of_rows, x) / count


@unbuffered
def apply(x: Array, affine: Affine, relu: bool) -> Array:
    """``scale (x - mean) + shift``, cut off at 0 if ``relu``."""
    xp, rows, y = get_array_module(x), _rows(x), get_array_module(x).empty(x.shape, x.dtype)
    result, (means, scales, shifts) = y.reshape(rows.shape), (_to_rows(xp, a, x) for a in affine[:3])

    def block(part: slice) -> None:
        scaled(rows[part], means[part], scales[part], shifts[part], relu, result[part])

    each_block(xp, block, len(rows), rows.shape[1] * means.dtype.itemsize)
    return y


@unbuffered
def backward(gy: Array, x: Array, affine: Affine, relu: bool, training: bool) -> tuple[Array, Array, Array]:
    """gx, and the sums over each channel of g and of ``g (x - mean)``; g is gy where ``relu`` passes it on."""
    xp = get_array_module(x)
    g, sum_g, sum_gx = _sums(gy, x, affine, relu)
    gx = g if relu else xp.empty(x.shape, x.dtype)
    passed = affine.through(sum_g, sum_gx, x.size // x.shape[1], training)
    means, scales, means_g, slopes = (_to_rows(xp, a, x) for a in (affine.mean, affine.scale, *passed))
    rows, g_rows, result = _rows(x), _rows(g), _rows(gx)

    def block(part: slice) -> None:
        distance = rows[part] - means[part]
        gradient(g_rows[part], distance, means_g[part], slopes[part], scales[part], result[part])

    each_block(xp, block, len(rows), rows.shape[1] * means.dtype.itemsize)
    return gx, sum_g, sum_gx


def _sums(gy: Array, x: Array, affine: Affine, relu: bool) -> tuple[Array, Array, Array]:
    """g, which is gy where ``relu`` passes it on, and the sums over each channel of g and of ``g (x - mean)``."""
    xp, acc, rows, g_rows = get_array_module(x), affine.mean.dtype, _rows(x), _rows(gy)
    means, scales, shifts = (_to_rows(xp, a, x) for a in affine[:3])
    g, (of_g, of_gx) = xp.empty(x.shape, x.dtype) if relu else gy, xp.empty((2, len(rows)), acc)
    passed = _rows(g)

    def block(part: slice) -> None:
        distance = rows[part] - means[part]
        if relu:
            pass_on(g_rows[part], distance, scales[part], shifts[part], passed[part])
        wide = passed[part].astype(acc, copy=False)
        of_g[part], of_gx[part] = row_sums(xp, wide), row_dots(xp, wide, distance)

    each_block(xp, block, len(rows), rows.shape[1] * acc.itemsize)
    return g, _over_images(of_g, x), _over_images(of_gx, x)


# ---- what is done to a part of x, with what each channel has beside it: (N C, 1), or (C pixels,) --------------------


def scaled(x: Array, mean: Array, scale: Array, shift: Array, relu: bool, y: Array) -> None:
    """Write ``scale (x - mean) + shift`` to y, cut off at 0 if ``relu``."""
    xp, same = get_array_module(x), mean.dtype == x.dtype
    out = xp.subtract(x, mean, out=y if same else None)
    out *= scale
    out += shift
    if relu:
        cut_off(xp, out.reshape(-1), out.reshape(-1))
    if not same:
        y[...] = out


def pass_on(gy: Array, distance: Array, scale: Array, shift: Array, g: Array) -> None:
    """Write gy to g where ``scale distance + shift`` is above 0, else 0; a NaN passes it on."""
    xp = get_array_module(gy)
    y = distance * scale
    y += shift
    cut = y <= 0
    xp.multiply(gy, xp.logical_not(cut, out=cut).astype(gy.dtype), out=g)


def gradient(g: Array, distance: Array, mean_g: Array, slope: Array, scale: Array, gx: Array) -> None:
    """Write ``scale (g - mean_g - slope distance)`` to gx, where ``distance``, which is changed, is x - mean."""
    xp = get_array_module(g)
    distance *= slope
    distance += mean_g
    same = distance.dtype == gx.dtype
    out = xp.subtract(g, distance, out=gx if same else distance)
    out *= scale
    if not same:
        gx[...] = out


def _rows(x: Array) -> Array:
    """x (N, C, ...) as (N C, pixels)."""
    return x.reshape(x.shape[0] * x.shape[1], prod(x.shape[2:]))


def _to_rows(xp: Any, a: Array, x: Array) -> Array:
    """a (C,) beside the rows of x: (N C, 1)."""
    return xp.tile(a, x.shape[0])[:, None]


def _over_images(of_rows: Array, x: Array) -> Array:
    """The sum over N of what each row of x has: (C,)."""
    return of_rows.reshape(x.shape[:2]).sum(0)
